"""Everything that can go wrong, as one tree.

Catch `PhotolabelError` for all of it, or the branch you can do something about::

    PhotolabelError
    ├── UsageError                an argument makes no sense: unknown recipe, top=0, ...
    │   └── TruthError            it cannot be told what a labelled photo shows: a list, a folder or a name is amiss
    ├── PhotoError                this one photo cannot be classified; the others can
    │   ├── PhotoNotFoundError    no such file
    │   ├── PhotoUnreadableError  it is there, but cannot be read: permission, folder, device, I/O error
    │   ├── PhotoUnavailableError  its object store gives nothing just now: no record says so, a run ends
    │   ├── UnsupportedFormatError  not a photo, or in a format photolabel does not read
    │   ├── CorruptPhotoError     begins like a photo, or an archive of them, but is broken or cut short
    │   ├── PhotoTooLargeError    more pixels, bytes or metadata than the limits allow
    │   ├── PhotoTooSlowError     takes longer to read and decode than it may
    │   └── DecoderCrashedError   ends the process that decodes it
    ├── ModelError                no model, so no photo can be classified
    │   ├── UnknownModelError     neither a known name nor a file
    │   ├── InvalidModelError     an ONNX file that is broken or does not describe itself
    │   ├── InvalidBundleError    an archive of models that is broken, hostile or of another format
    │   ├── MissingWeightsError   a known model whose weights are not on this machine
    │   ├── InvalidWeightsError   a weights file that is broken, hostile or in an unknown format
    │   └── WeightsMismatchError  sound weights, but of another network
    ├── StoreError                a file could not be fetched or kept
    │   ├── OfflineError          the network is needed, but PHOTOLABEL_OFFLINE forbids it
    │   ├── DownloadError         the network or the server failed
    │   ├── HashMismatchError     what came is not what was asked for
    │   ├── DiskFullError         no room
    │   ├── CacheUnwritableError  the cache folder cannot be written
    │   └── BusyError             another process is at work on the file
    ├── OutputError               a file that was asked for cannot be written
    │   └── SidecarError          an XMP sidecar that is there cannot be merged; it is left as it is
    ├── ClusterError              the machines that were to do the work cannot be had, or do not bear it
    └── MissingExtraError         an optional package is needed that is not installed

Every class has a `code`, a stable word that machine output carries (`"corrupt-photo"`). The message says what
was expected, what came and what to do; it holds no address of memory and no library's repr.
"""

from __future__ import annotations


class PhotolabelError(Exception):
    """Base of every error that photolabel raises on purpose."""

    code = "error"


class UsageError(PhotolabelError, ValueError):
    """An argument makes no sense."""

    code = "usage"


class TruthError(UsageError):
    """It cannot be told what a labelled photo truly shows: by its folder, its name, or the list that was given."""

    code = "truth-unknown"


class PhotoError(PhotolabelError):
    """One photo cannot be classified."""

    code = "photo-error"


class PhotoNotFoundError(PhotoError):
    """There is no such file."""

    code = "photo-not-found"


class PhotoUnreadableError(PhotoError):
    """The photo exists but cannot be read: a permission, a folder, a device, a failing disk."""

    code = "photo-unreadable"


class PhotoUnavailableError(PhotoError):
    """The object store that has the photo gives none just now: no credentials, or no answer. It ends a run."""

    code = "photo-unavailable"


class UnsupportedFormatError(PhotoError):
    """Not a photo, or in a format that photolabel does not read."""

    code = "unsupported-format"


class CorruptPhotoError(PhotoError):
    """The file begins like a photo, or an archive of them, but is broken or cut short."""

    code = "corrupt-photo"


class PhotoTooLargeError(PhotoError):
    """More pixels, bytes or metadata than the limits allow."""

    code = "photo-too-large"


class PhotoTooSlowError(PhotoError):
    """The photo takes longer to read and decode than it may; only where photos are decoded in workers."""

    code = "photo-too-slow"


class DecoderCrashedError(PhotoError):
    """The photo ends the process that decodes it; only where photos are decoded in workers."""

    code = "decoder-crashed"


class ModelError(PhotolabelError):
    """No model, so no photo can be classified."""

    code = "model-error"


class UnknownModelError(ModelError):
    """Neither the name of a known model nor a file."""

    code = "unknown-model"


class InvalidModelError(ModelError):
    """An ONNX file that is broken or does not describe itself."""

    code = "invalid-model"


class InvalidBundleError(ModelError):
    """An archive of models that is broken, hostile or of another format."""

    code = "invalid-bundle"


class MissingWeightsError(ModelError):
    """The weights of a known model are not on this machine."""

    code = "missing-weights"


class InvalidWeightsError(ModelError):
    """A weights file that is broken, hostile or in an unknown format."""

    code = "invalid-weights"


class WeightsMismatchError(ModelError):
    """Sound weights, but of another network than the one asked for."""

    code = "weights-mismatch"


class StoreError(PhotolabelError):
    """A file could not be fetched or kept."""

    code = "store-error"


class OfflineError(StoreError):
    """The network is needed but forbidden."""

    code = "offline"


class DownloadError(StoreError):
    """The network or the server failed."""

    code = "download-failed"


class HashMismatchError(StoreError):
    """What came is not what was asked for."""

    code = "hash-mismatch"


class DiskFullError(StoreError):
    """There is no room for the file."""

    code = "disk-full"


class CacheUnwritableError(StoreError):
    """The cache folder cannot be written."""

    code = "cache-unwritable"


class BusyError(StoreError):
    """Another process is at work on the file."""

    code = "busy"


class OutputError(PhotolabelError):
    """A file that the caller asked for cannot be written where it was asked for."""

    code = "output-unwritable"


class SidecarError(OutputError):
    """An XMP sidecar that is there cannot be merged with; it is left as it is."""

    code = "sidecar-unmergeable"


class ClusterError(PhotolabelError):
    """A cluster that was to do the work cannot be reached, does not fit, or loses what it is at again and again."""

    code = "cluster-unusable"


class MissingExtraError(PhotolabelError):
    """Something that was asked for needs an optional package, which is not installed."""

    code = "missing-extra"
