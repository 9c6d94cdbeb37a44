"""Which Job a Pod belongs to: the one of that name may be another than the one before."""

import msgspec

from .objects import Labels, ObjectMeta, PodView

__all__ = ["OwnedPod"]


class PodLabels(Labels, frozen=True):
    """The labels of a Pod, the Job controller's among them (Kubernetes: well-known labels)."""

    job_uid: str | None = msgspec.field(name="batch.kubernetes.io/controller-uid", default=None)


class PodMeta(ObjectMeta, frozen=True):
    """The metadata of a Pod."""

    labels: PodLabels | None = None


class OwnedPod(PodView, frozen=True):
    """A Pod that names its Job."""

    metadata: PodMeta = PodMeta()

    @property
    def job_name(self) -> str | None:
        """The name of the Pod's Job."""
        return self.metadata.labels.job_name if self.metadata.labels else None

    @property
    def job_uid(self) -> str | None:
        """The identity of the Pod's Job."""
        return self.metadata.labels.job_uid if self.metadata.labels else None

    @property
    def has_ended(self) -> bool:
        """Whether no container of the Pod runs any more, nor ever will."""
        return self.phase in ("Succeeded", "Failed")
