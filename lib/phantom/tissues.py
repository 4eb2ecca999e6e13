"""The tissues of the phantom, each with a code that is also used in its segmentations."""

from enum import IntEnum


class Tissue(IntEnum):
    """Codes of the tissue maps; 0 is outside the body. The values are stored in DICOM SEG: never renumber them."""

    OUTSIDE = 0
    SKIN = 1
    SUBCUTANEOUS_FAT = 2
    MUSCLE = 3
    CORTICAL_BONE = 4
    TRABECULAR_BONE = 5
    DISC = 6
    SPINAL_CANAL = 7
    VISCERAL_FAT = 8
    SINUS_FAT = 9
    RENAL_CORTEX = 10
    RENAL_MEDULLA = 11
    URINE = 12
    RENAL_CYST = 13
    RENAL_TUMOUR = 14
    AORTA = 15
    ARTERY = 16
    RENAL_VEIN = 17
    VENA_CAVA = 18
    PORTAL_VEIN = 19
    HEPATIC_VEIN = 20
    LIVER = 21
    GALLBLADDER = 22
    SPLEEN = 23
    PANCREAS = 24
    BOWEL_WALL = 25
    BOWEL_FLUID = 26
    BOWEL_GAS = 27
    ORAL_CONTRAST = 28
    STOOL = 29
    CALCIFICATION = 30
    ADRENAL = 31
    METAL = 32


# Paint codes that are not a separate tissue, and the tissue that each belongs to.
TABLE = 40
BLANKET = 41
FASCIA = 42
INTRAMUSCULAR_FAT = 43
THECAL_SAC = 44
RIB_MARROW = 45
TUMOUR_NECROSIS = 46
URETER = 47
GEL, PLASTIC = 52, 53  # of electrodes
CHYME = (48, 49, 50, 51)  # fillings of the gut of different density
PAINT_TISSUE = {
    **dict.fromkeys(CHYME, Tissue.BOWEL_FLUID),
    TABLE: Tissue.OUTSIDE,
    BLANKET: Tissue.OUTSIDE,
    GEL: Tissue.OUTSIDE,
    PLASTIC: Tissue.OUTSIDE,
    FASCIA: Tissue.VISCERAL_FAT,
    INTRAMUSCULAR_FAT: Tissue.MUSCLE,
    THECAL_SAC: Tissue.SPINAL_CANAL,
    RIB_MARROW: Tissue.TRABECULAR_BONE,
    TUMOUR_NECROSIS: Tissue.RENAL_TUMOUR,
    URETER: Tissue.URINE,
}
PAINTS = 64

KIDNEY_TISSUES = (
    Tissue.SINUS_FAT,
    Tissue.RENAL_CORTEX,
    Tissue.RENAL_MEDULLA,
    Tissue.URINE,
    Tissue.RENAL_CYST,
    Tissue.RENAL_TUMOUR,
)
