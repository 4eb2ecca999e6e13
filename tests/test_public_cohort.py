"""The public cohort: rules on descriptions, one fate for every series, and the counts of the bundled index."""

from importlib.util import find_spec

import pandas as pd
import pytest

from lib.paper import PHASES
from lib.public_cohort import (
    INDEX_COLUMNS,
    choose_patients,
    count_by_phase,
    count_fates,
    phases_named,
    plan_cohort,
    read_index,
    write_labels,
)

NAMED = {
    "noncontrast": "noncon", "PRE LIVER": "noncon", "NON_CONTRAST  5.0  B31F": "noncon",
    "KIDNEY W/O  5.0  B40f": "noncon",
    "Kidneys i-  5.0  B30f": "noncon", "przed kontrastem": "noncon", "Native 5.0 B30f": "noncon", "AXIAL S/C": "noncon",
    "unenhanced": "noncon", "PRE-CONT": "noncon", "AX THK NC": "noncon", "ABD/PEL_NON  ST": "noncon",
    "Abd C- 5.0 B30f": "noncon", "KIDNEYS  I - 5.0 B20f": "noncon", "Przed kontrsatem": "noncon",
    "arterial": "cm", "Faza tetnicza  5.0  miekkie": "cm", "f.tętnicza": "cm", "FAZA TETNIC  5.0  B41s": "cm",
    "45 SEC   5.0  B40f": "cm", "Cortical": "cm",
    "venous phase": "cm-neph", "Faza zylna  1.5  3D": "cm-neph", "VOLUME PORTAL": "cm-neph", "70 sec": "cm-neph",
    "70 seconds  5.0  B40f": "cm-neph", ",CE,Axial,3.0,,CONTRASTE/VENOSO,": "cm-neph",
    "PARENCHYMAL PHASE": "neph", "Nephrographic  5.0  B31f": "neph", "100s kidneys": "neph", "90 SEC ABD": "neph",
    "140SEC DELAY DIAPHRAGM TO CREST": "neph",
    "3 MIN DELAY": "pyelo", "delays": "pyelo", "12 min excretion": "pyelo", "opoznione  5.0  miekkie": "pyelo",
    "F. POZNA  5.0  B31s": "pyelo", "VOLUME EXCRETORA": "pyelo", "Delay Nephro  5.0  B31f": "pyelo",
    "CT UROGRAM": "pyelo", "F. OPOZ.  2.0  I26f  3": "pyelo", "KIDNEY W  3.0  B30fDELAY": "pyelo",
    "180 Sec  2.0  B40f": "pyelo", "300 sec delay": "pyelo",
}  # fmt: skip


@pytest.mark.parametrize("description", NAMED)
def test_descriptions_in_three_languages(description):
    assert phases_named(description) == [NAMED[description]]


@pytest.mark.parametrize(
    "description", ["", "AXIAL", "CAP ROUTINE  5.0  B40f", "post contrast", "+C", "nan", "with", "C-A-P"]
)
def test_descriptions_that_name_no_phase(description):
    assert phases_named(description) == []


def test_late_is_delayed_in_one_collection_only():
    assert phases_named("late", "c4kc_kits") == ["pyelo"] and phases_named("late", "tcga_kirc") == []
    assert phases_named("arterial/parenchymal") == ["neph", "cm"]


def row(uid, description="arterial", images=90, patient="A", study="1", number=1, modality="CT", result=None):
    values = [
        "tcga_kirc",
        result,
        patient,
        study,
        uid,
        modality,
        number,
        description,
        images,
        50.0,
        "CC BY 3.0",
        "10.1/x",
    ]
    return dict(zip(INDEX_COLUMNS, values, strict=True))


def test_every_series_has_one_fate():
    index = pd.DataFrame(
        [
            row("1"), row("2", images=400), row("3", "coronal arterial"), row("4", "lung"), row("5", ""),
            row("6", "axial"),
            row("7", images=3), row("8", "arterial/parenchymal"), row("9", "+C", number=4), row("10", "chest arterial"),
            row("11", "RCC-AID kidney/mass/cyst seg, delayed, CT series 4", 1, modality="SEG", result="rcc_aid"),
            row("12", "nuclei", 1, modality="SEG", result="other"), row("13", "arterial abd  3.0  B70f"),
        ]
    )  # fmt: skip
    planned = plan_cohort(index).set_index("SeriesInstanceUID")
    assert planned["fate"].to_dict() == {
        "1": "chosen",
        "2": "another reconstruction of the same study and phase",
        "3": "a reformat, a projection or not axial",
        "4": "another part of the body, or a kernel for lung or bone",
        "5": "no description",
        "6": "no phase named",
        "7": "fewer than 20 images",
        "8": "several phases named",
        "9": "chosen",
        "10": "another part of the body, or a kernel for lung or bone",
        "13": "another part of the body, or a kernel for lung or bone",
    }
    assert planned.loc["9", ["phase", "evidence", "kidney_seg"]].tolist() == ["pyelo", "RCC-AID", "11"]
    assert count_fates(planned).loc["all", "all"] == 11


def test_patients_with_most_phases_come_first():
    rows = [
        row(str(n), d, patient=p, study=p) for n, (p, d) in enumerate([("A", "arterial"), ("B", "pre"), ("B", "delay")])
    ]
    planned = plan_cohort(pd.DataFrame(rows))
    assert choose_patients(planned, 1)["PatientID"].unique().tolist() == ["B"]
    assert len(choose_patients(planned, 0)) == 3


def test_labels_name_what_is_there(tmp_path):
    planned = plan_cohort(pd.DataFrame([row("1"), row("2", "delay")]))
    path = write_labels(planned, ["2"], tmp_path)
    assert path.read_text() == "series_uid,phase\n2,pyelo\n"


@pytest.mark.skipif(find_spec("idc_index_data") is None, reason='idc-index is absent: pip install -e ".[public-data]"')
def test_the_index_of_the_archive():
    """Counts of the index 25.0.5; C4KC-KiTS names its three phases in so many words, and they must all be found."""
    index = read_index()
    planned = plan_cohort(index)
    assert count_fates(planned).loc["all", "all"] == (index["Modality"] == "CT").sum()
    counts = count_by_phase(planned)
    assert counts.loc["c4kc_kits", list(PHASES)].tolist() == [108, 210, 0, 0, 92]
    assert counts.loc["patients", "patients"] == pytest.approx(525, rel=0.05)
    assert counts.loc["series", "all"] == pytest.approx(1073, rel=0.05)
    chosen = planned[planned["fate"] == "chosen"]
    assert not chosen.duplicated(["StudyInstanceUID", "phase"]).any()
    assert set(chosen["license_short_name"]) == {"CC BY 3.0", "CC BY 4.0"}
