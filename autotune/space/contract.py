"""What the search must not change: the contract between the job and the tuner."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CONTRACT_KEYS = ("global_batch_size", "seq_length", "precision", "optimizer")

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8"]


class Contract(BaseModel):
    """Everything that decides what is learned. Locked, unless named in `search`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    global_batch_size: int | None = Field(
        default=None, gt=0, description="sequences in one optimizer step over the whole cluster"
    )
    seq_length: int | None = Field(default=None, gt=0, description="tokens in one sequence")
    precision: Precision | None = Field(default=None, description="of the matrix products")
    optimizer: str | None = Field(default=None, description="such as adam, adamw, sgd")
    search: tuple[Literal["global_batch_size", "seq_length", "precision", "optimizer"], ...] = (
        Field(default=(), description="contract keys that may be parameters after all")
    )

    @property
    def tokens_per_step(self) -> int | None:
        """Tokens of one optimizer step; None when batch or length is not told."""
        if self.global_batch_size is None or self.seq_length is None:
            return None
        return self.global_batch_size * self.seq_length
