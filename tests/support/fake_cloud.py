"""A cloud for Ray's autoscaler whose machines are processes of this one, and may be taken away."""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class FakeCloud(FakeMultiNodeProvider):
    """Ray's own, which, as a cloud does, no longer lists a machine that is gone."""

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Returns the IDs of the machines with these tags, after it has dropped those whose processes have ended."""
        with self.lock:
            nodes: dict[str, Any] = self._nodes
            for node_id, node in list(nodes.items()):
                if "node" in node and node["node"].all_processes["raylet"][0].process.poll() is not None:
                    del nodes[node_id]
        found: list[str] = super().non_terminated_nodes(tag_filters)  # type: ignore[no-untyped-call]
        return found
