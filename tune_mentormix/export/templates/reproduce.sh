#!/bin/sh
{% if model and model.trained_on == "all images" %}
# Trains the same configuration again on all images and compares the weights: the same file, byte for byte, on the
# same kind of CPU with the same versions.
{% else %}
# Measures the exported weights, then trains the same configuration again and measures that: the same accuracy, bit
# for bit, on the same kind of CPU with the same versions.
{% endif %}
# Needs tune-mentormix {{ trained_with.versions["tune-mentormix"] | default("of a version that was not recorded") }}{% if trained_with.commit %} at commit {{ trained_with.commit }}{% endif %}, torch {{ trained_with.versions.torch | default("of a version that was not recorded") }}.
# The data, where they lie elsewhere: DATA="--data-dir /path/to/data" ./reproduce.sh
{% if plug_ins %}
# Needs also, where Python finds them: {{ plug_ins | join(", ") }}.
{% endif %}
set -eu
cd "$(dirname "$0")"
{% if model and model.trained_on == "all images" %}
tune-mentormix train best_config.yaml --all-images --out "${1:-reproduced}" ${DATA:-}{% for name in plug_ins or () %} --plug-in {{ name }}{% endfor +%}
cmp model.safetensors "${1:-reproduced}/model.safetensors"
{% else %}
{% if model %}
tune-mentormix evaluate . ${DATA:-}{% for name in plug_ins or () %} --plug-in {{ name }}{% endfor +%}
{% endif %}
tune-mentormix train best_config.yaml --out "${1:-reproduced}" ${DATA:-}{% for name in plug_ins or () %} --plug-in {{ name }}{% endfor +%}
tune-mentormix evaluate "${1:-reproduced}" ${DATA:-}{% for name in plug_ins or () %} --plug-in {{ name }}{% endfor +%}
{% endif %}
