"""Files as real archives hold them, made from a tiny healthy series: each quirk with the answer that is due.

`EXACT` quirks are read, HU for HU; `REFUSED` ones are rejected with one reason; both change one dataset before it is
written. What needs more than one dataset or the bytes of a file stands in test_quirks.py.
"""

from __future__ import annotations

import numpy as np
from conftest import abdomen
from pydicom import Dataset, Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)


def pixels(dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).copy()


def set_(**values):
    """Return a quirk that sets attributes; None deletes one."""

    def change(dataset):
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def stored(orientation, turn):
    def change(dataset):
        image = np.ascontiguousarray(turn(pixels(dataset)))
        dataset.ImageOrientationPatient, dataset.PixelData = orientation, image.tobytes()
        dataset.Rows, dataset.Columns = image.shape

    return change


def syntax(name):
    def change(dataset):
        if name.is_encapsulated:
            dataset.compress(name)
            return
        if name == ExplicitVRBigEndian:
            dataset.PixelData = pixels(dataset).astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = name

    return change


def padded(vr, value, raw, limit=None, band=None):
    """Pad the outermost rows with `raw` (and `band`), and declare `value` (up to `limit`) as padding."""

    def change(dataset):
        image = pixels(dataset)
        image[:2] = raw
        image[2:4] = raw if band is None else band
        dataset.PixelData = image.tobytes()
        if vr:
            dataset.add_new("PixelPaddingValue", vr, value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", vr, limit)

    return change


def unsigned_twelve_bits(dataset):
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11


def signed_without_intercept(dataset):
    dataset.PixelData = (pixels(dataset) - 1024).astype("<i2").tobytes()
    del dataset.RescaleIntercept


def twelve_bits_on_top(dataset):
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 15
    dataset.PixelData = (pixels(dataset).astype("<u2") << 4).tobytes()


def colour(dataset):
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes(3 * dataset.Rows * dataset.Columns)


def unsigned_from_minus_8192(dataset):
    dataset.PixelRepresentation, dataset.RescaleIntercept = 0, -8192
    dataset.PixelData = (pixels(dataset).astype("<i4") - 1024 + 8192).astype("<u2").tobytes()


def a_window_in_eight_bits(dataset):
    """A picture of the screen, with all attributes of the CT that it was made from."""
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.RescaleIntercept = 0
    dataset.PixelData = np.clip((pixels(dataset) - 1024 + 160) * 255 / 400, 0, 255).astype("u1").tobytes()


def comma(dataset):
    element = dataset["RescaleIntercept"]
    del dataset[element.tag]
    dataset.add_new(element.tag, "LO", "-1024,0")


def lookup_table(dataset):
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [0, 0, 16], "HU"
    dataset.ModalityLUTSequence = Sequence([item])
    del dataset.RescaleIntercept, dataset.RescaleSlope


def implicit_padding(dataset):
    """An ambiguous value representation (US or SS) in a file that names none."""
    padded("SS", -2000, np.int16(-2000))(dataset)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def map_of_flow(dataset):
    dataset.ImageType, dataset.RescaleType = ["DERIVED", "PRIMARY", "AXIAL", "RCBF"], "US"


TILT = [1, 0, 0, 0, 0.9945, -0.1045]
EXACT = {
    "padding of -2000 outside the field of view": padded("SS", -2000, np.int16(-2000)),
    "padding of -2000 written as 63536": padded("US", 63536, np.int16(-2000)),
    "padding above everything": padded("SS", 32767, np.int16(32767)),
    "padding as a range": padded("SS", -3000, np.int16(-2500), limit=-2000, band=np.int16(-2000)),
    "padding as a range above everything": padded("SS", 32767, np.int16(32767), limit=32000, band=np.int16(32500)),
    "padding never declared": padded(None, None, np.int16(-2000)),
    "padding in implicit VR": implicit_padding,
    "-1024 outside": padded(None, None, np.int16(0)),
    "rows bottom-up": stored([1, 0, 0, 0, -1, 0], lambda a: a[::-1]),
    "columns from the left": stored([-1, 0, 0, 0, 1, 0], lambda a: a[:, ::-1]),
    "transposed": stored([0, 1, 0, 1, 0, 0], lambda a: a.T),
    "axial but for rounding": set_(ImageOrientationPatient=[0.9999, 0.0001, 0, -0.0001, 0.9999, 0]),
    "gantry tilt of six degrees": set_(ImageOrientationPatient=TILT),
    "implicit VR": syntax(ImplicitVRLittleEndian),
    "big endian": syntax(ExplicitVRBigEndian),
    "deflated": syntax(DeflatedExplicitVRLittleEndian),
    "JPEG 2000": syntax(JPEG2000Lossless),
    "JPEG-LS": syntax(JPEGLSLossless),
    "RLE": syntax(RLELossless),
    "twelve bits, unsigned": unsigned_twelve_bits,
    "no agent": set_(ContrastBolusAgent=""),
    "several kernels": set_(ConvolutionKernel=["I31f", "3"]),
    "no thickness, sex or manufacturer": set_(SliceThickness=None, PatientSex=None, Manufacturer=None),
    "no ImageType": set_(ImageType=None),
    "RescaleType HU": set_(RescaleType="HU"),
    "RescaleType unspecified on an original": set_(RescaleType="US"),
    "no intercept, signed, air below 0": signed_without_intercept,
    "Secondary Capture with geometry": set_(SOPClassUID=SecondaryCaptureImageStorage),
    "empty SOPClassUID": set_(SOPClassUID=""),
    "empty SOPInstanceUID": set_(SOPInstanceUID=""),
    "16 bits, unsigned, from -8192": unsigned_from_minus_8192,
    "spacing of a tenth of a millimetre": set_(PixelSpacing=[0.1, 0.1]),
}
UNKNOWN = "Hounsfield units unknown: "
REFUSED = {
    "coronal": (set_(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "coronal, not axial"),
    "sagittal": (set_(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "sagittal, not axial"),
    "tilt of 25 degrees": (
        set_(ImageOrientationPatient=[1, 0, 0, 0, 0.9063, -0.4226]),
        "tilted by 25 degrees (at most 10 are read)",
    ),
    "scout": (set_(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "scout (localizer)"),
    "screen save": (set_(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "screen save"),
    "colour": (colour, "screen save: a colour image"),
    "palette": (set_(PhotometricInterpretation="PALETTE COLOR"), "screen save: a palette of colours"),
    "blood flow map": (map_of_flow, "a computed map (rcbf), not attenuation in Hounsfield units"),
    "perfusion": (
        set_(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_PERFUSION"]),
        "a computed map (perfusion), not attenuation in Hounsfield units",
    ),
    "iodine map": (
        set_(ImageType=["DERIVED", "PRIMARY", "IODINE_MAP"]),
        "a computed map (iodine), not attenuation in Hounsfield units",
    ),
    "electron density": (set_(RescaleType="ED"), UNKNOWN + "RescaleType is not HU"),
    "unspecified units of a derived image": (
        set_(RescaleType="US", ImageType=["DERIVED", "PRIMARY", "AXIAL"]),
        UNKNOWN + "RescaleType is not HU",
    ),
    "unsigned without intercept": (
        set_(PixelRepresentation=0, RescaleIntercept=None),
        UNKNOWN + "unsigned pixels without RescaleIntercept",
    ),
    "a window in eight bits": (
        a_window_in_eight_bits,
        UNKNOWN + "8 bits with this slope hold 256 HU, not the whole range",
    ),
    "a comma in a number": (comma, UNKNOWN + "RescaleIntercept is not one number"),
    "lookup table": (lookup_table, UNKNOWN + "no linear rescale"),
    "slope 0": (set_(RescaleSlope=0), UNKNOWN + "no linear rescale"),
    "slope 1e9": (set_(RescaleSlope=1e9), UNKNOWN + "RescaleSlope is not between 0 and 1000"),
    "intercept 1e9": (set_(RescaleIntercept=1e9), UNKNOWN + "RescaleIntercept lies beyond 100000"),
    "twelve bits in the upper bits": (
        twelve_bits_on_top,
        "pixels of 12 bits whose highest is bit 15: it is open which bits count",
    ),
    "pixels of 64 bits": (set_(BitsAllocated=64), "pixels of 16 bits in 64: 8, 16 or 32 are read"),
    "spacing of a picometre": (set_(PixelSpacing=[1e-9, 1e-9]), "PixelSpacing outside 0.05 to 10 mm"),
    "spacing of a metre": (set_(PixelSpacing=[1000, 1000]), "PixelSpacing outside 0.05 to 10 mm"),
    "no spacing": (set_(PixelSpacing=None), "PixelSpacing missing"),
    "20000 rows": (set_(Rows=20000, Columns=20000), "20000 x 20000 pixels (at most 4096 a side are read)"),
    "two billion frames": (set_(NumberOfFrames=2_000_000_000), "2000000000 frames (1 to 10000 are read)"),
    "two frames without positions": (set_(NumberOfFrames=2), "several frames without positions"),
    "a kilometre from the scanner": (
        set_(ImagePositionPatient=[0, 0, 1e6]),
        "a position more than 100 m from the scanner",
    ),
    "no position": (
        set_(ImagePositionPatient=None),
        "no position: ImagePositionPatient and SliceLocation missing",
    ),
    "MR": (set_(Modality="MR"), "modality MR, not CT"),
    "a name where the modality should be": (set_(Modality="SMITH^JOHN"), "modality unknown, not CT"),
    "no pixels": (set_(PixelData=None), "truncated: pixels are missing"),
    "half of the pixels": (lambda d: setattr(d, "PixelData", d.PixelData[:9000]), "truncated: pixels are missing"),
}


def exact_hu(name: str) -> np.ndarray:
    """HU of an exact quirk: those of the healthy slice, air where it was padded."""
    hu = abdomen()
    if name.startswith(("padding", "-1024")):
        hu[:4] = -1024
    return hu
