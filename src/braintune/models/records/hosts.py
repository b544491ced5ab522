"""Where publishers keep their files, and what must be said of those that can't be pinned."""

from braintune.models.weights.record import Source

HASH_UNKNOWN = "the file's hash is not known"
NOT_PINNED = "the host's revision is not pinned"
TORCHVISION_TERMS = (
    "torchvision says that the terms of the data set may also apply to weights trained on it"
)
IMAGENET_TERMS = "ImageNet itself is given for non-commercial research and education"


def hugging_face(
    repository: str, file: str, revision: str, sha256: str, size: int | None = None
) -> Source:
    """A file of a repository of the Hugging Face hub, as it is in one of its commits.

    Example:
        >>> hugging_face("someone/net", "net.pth", "0" * 40, "1" * 64).file
        'net.pth'
    """
    return Source(
        url=f"https://huggingface.co/{repository}/resolve/{revision}/{file}",
        revision=revision,
        sha256=sha256,
        size=size,
    )


def torchvision(file: str) -> Source:
    """A file of torchvision, whose name ends with the first eight digits of its hash.

    Example:
        >>> torchvision("resnet18-f37072fd.pth").sha256
        'f37072fd'
    """
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Source(url=f"https://download.pytorch.org/models/{file}", sha256=digits)
