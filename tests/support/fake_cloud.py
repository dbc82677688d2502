"""A cloud for Ray's autoscaler whose machines are processes of this one, and may be taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class FakeCloud(FakeMultiNodeProvider):
    """Ray's own, which, as a cloud does, no longer lists a machine that is gone, and may have none to give."""

    def create_node_with_resources_and_labels(self, *machine: Any) -> Any:
        """Starts a machine, unless the file that the configuration names says that there is none."""
        if Path(self.provider_config["sold_out"]).exists():
            return {}
        return super().create_node_with_resources_and_labels(*machine)  # type: ignore[no-untyped-call]

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Returns the IDs of the machines with these tags, after it has dropped those whose processes have ended."""
        with self.lock:
            nodes: dict[str, Any] = self._nodes
            for node_id, node in list(nodes.items()):
                if "node" in node and node["node"].all_processes["raylet"][0].process.poll() is not None:
                    del nodes[node_id]
        found: list[str] = super().non_terminated_nodes(tag_filters)  # type: ignore[no-untyped-call]
        return found
