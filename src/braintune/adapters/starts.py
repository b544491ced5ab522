"""Factors of a weight to start from: its principal part, or an orthogonal one."""

import torch


def principal_factors(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The product of rank r nearest to a matrix, shared out evenly (PiSSA, arXiv 2404.02948).

    By the eigenvectors of the smaller of M·Mᵀ and Mᵀ·M, which for kernels is several times faster
    than a decomposition of M itself.

    Args:
        matrix: Shape (rows, columns).
        rank: How many factors; at most the smaller side counts.

    Returns:
        U·√S of shape (rows, rank) and √S·Vᵀ of shape (rank, columns).

    Example:
        >>> matrix = torch.outer(torch.arange(4.0), torch.arange(6.0))
        >>> left, right = principal_factors(matrix, 1)
        >>> torch.allclose(left @ right, matrix, atol=1e-4)
        True
    """
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    _, vectors = torch.linalg.eigh(wide @ wide.T)
    vectors = vectors[:, -rank:].flip(1)
    # Eigenvectors have no sign of their own; the largest entry is made positive, so that every
    # machine starts alike.
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = vectors * largest.sign()
    rest = vectors.T @ wide
    root = rest.norm(dim=1).clamp_min(1e-12).sqrt()
    left, right = vectors * root, rest / root[:, None]
    if wide.shape != matrix.shape or matrix.shape[0] > matrix.shape[1]:
        left, right = right.T, left.T
    return left.to(matrix.dtype).contiguous(), right.to(matrix.dtype).contiguous()


def orthogonal_factors(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first r columns of Q and rows of R of a matrix Q·R (OLoRA, arXiv 2406.01775).

    Args:
        matrix: Shape (rows, columns).
        rank: How many.

    Returns:
        Shapes (rows, rank) and (rank, columns).
    """
    q, r = torch.linalg.qr(matrix.float())
    return q[:, :rank].to(matrix.dtype).contiguous(), r[:rank].to(matrix.dtype).contiguous()
