#!/bin/sh
# Measures the exported weights, then trains the same configuration again and measures that: the same accuracy, bit
# for bit, on the same kind of CPU with the same versions.
# Needs tune-mentormix {{ trained_with.versions["tune-mentormix"] }}{% if trained_with.commit %} at commit {{ trained_with.commit }}{% endif %}, torch {{ trained_with.versions.torch }}.
# The data, where they lie elsewhere: DATA="--data-dir /path/to/data" ./reproduce.sh
set -eu
cd "$(dirname "$0")"
{% if model %}
tune-mentormix evaluate . ${DATA:-}
{% endif %}
tune-mentormix train best_config.yaml --out "${1:-reproduced}" ${DATA:-}
tune-mentormix evaluate "${1:-reproduced}" ${DATA:-}
