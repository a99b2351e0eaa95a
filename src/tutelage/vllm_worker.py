"""Runs inside vLLM's worker, not in the trainer: what `--worker-extension-cls tutelage.vllm_worker.RebuildHead` adds.

The server imports this module by its name, so it needs this package in its `PYTHONPATH`. Its environment has none of the
trainer's packages: this module imports nothing else.
"""

from typing import Any


class RebuildHead:
    """Reloading that also packs again what a processor's kernels hold of matrices that have two names.

    On a CPU vLLM multiplies by packed copies of the weights. A reload packs a layer again when its weights arrive; the head of
    a model with tied embeddings has none of its own, so its packed copy stays that of the weights before.
    """

    def reload_and_rebuild(self: Any, weights_path: str | None = None) -> dict[str, int]:
        """Reload the weights and pack again what was left.

        Args:
            weights_path: Folder to read instead of the one that the server was started with.

        Returns:
            `rebuilt`: how many layers were packed again.
        """
        self.reload_weights(**({} if weights_path is None else {"weights_path": weights_path}))
        rebuilt = 0
        for layer in self.get_model().modules():
            method = getattr(layer, "quant_method", None)
            if hasattr(layer, "cpu_linear") and method is not None and getattr(layer, "weight", None) is not None:
                if layer.weight.numel() == 0:
                    continue  # packed when its weights arrived, and its plain form was dropped
                method.process_weights_after_loading(layer)
                rebuilt += 1
        return {"rebuilt": rebuilt}
