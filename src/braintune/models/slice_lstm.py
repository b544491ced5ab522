"""The recurrent baseline of the slice-set networks: an LSTM reads the slices in their order.

Described by Gupta et al. (arXiv 2303.01491) and in their earlier work on slices (ISBI 2021).
"""

import torch
from pydantic import Field, PositiveInt
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
)
from braintune.models.encoders.slice_cnn import (
    PUBLISHED_CHANNELS,
    CNNOptions,
    build_cnn,
    initialise_pointwise,
)
from braintune.models.slice_set import published_head
from braintune.models.slices import Plane, encode_slices, encoder_stages, slice_shape


class SliceLSTMOptions(BackboneOptions):
    """Options of the LSTM over slices.

    Attributes:
        plane: Sagittal slices lie along x, coronal along y and axial along z.
        channels: Channels of the encoder's blocks; each but the last halves the resolution.
        slice_features: Features of a slice.
        hidden: Features of the LSTM, and of a scan.
        dropout: Share of the encoder's features dropped before they are reduced.
    """

    plane: Plane = "sagittal"
    channels: list[int] = Field(PUBLISHED_CHANNELS, min_length=2)
    slice_features: PositiveInt = 2
    hidden: PositiveInt = 128
    dropout: float = Field(0.5, ge=0, lt=1)


class SliceLSTM(Backbone):
    """A 2D encoder and an LSTM; its features are the LSTM's state after the last slice."""

    def __init__(self, options: SliceLSTMOptions, given: InputShape) -> None:
        super().__init__()
        self.n_features = options.hidden
        self.plane: Plane = options.plane
        encoder = CNNOptions(channels=options.channels)
        self.encoder = build_cnn(encoder, slice_shape(given, options.plane))
        self.dropout = nn.Dropout(options.dropout)
        self.reduction = nn.Linear(self.encoder.n_features, options.slice_features)
        self.lstm = nn.LSTM(options.slice_features, options.hidden, batch_first=True)
        initialise_pointwise(self.reduction)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z), of any number of slices, to (batch, n_features)."""
        slices = encode_slices(self.encoder, images, self.plane)
        return _last_state(self.lstm, self.reduction(self.dropout(slices)))

    def stages(self) -> list[tuple[str, ...]]:
        """The encoder's, the reduction, the LSTM."""
        return [*encoder_stages(self.encoder), ("reduction",), ("lstm",)]


def _last_state(lstm: nn.LSTM, slices: torch.Tensor) -> torch.Tensor:
    """From (batch, slices, features) to the state after the last slice, (batch, hidden)."""
    # What the module's own forward calls; that also sets attributes, which export warns of.
    weights: list[torch.Tensor] = list(lstm.parameters())
    start = slices.new_zeros(1, len(slices), lstm.hidden_size)
    _, state, _ = torch.lstm(
        slices,
        (start, start),
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=lstm.training,
        bidirectional=False,
        batch_first=True,
    )
    return state[-1]


BACKBONES.add(
    BackboneEntry(
        name="slice-lstm",
        family="slice-set",
        summary="LSTM over 2D slices, the recurrent baseline of the slice-set networks",
        paper="Gupta et al. 2023, arXiv 2303.01491",
        options=SliceLSTMOptions,
        build=SliceLSTM,
        published=InputShape(1, (91, 109, 91)),
        parameters=1_070_403,
        head=published_head,
    )
)
