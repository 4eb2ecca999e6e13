# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Prepare the cohort
#
# How do CT series in DICOM become images that a network can learn from? This notebook finds the slices through the
# kidneys, converts them to Hounsfield units (HU), removes what lies outside the body, and divides the patients into a
# training, a validation and a test split, as the sections *Dataset* and *Data Standardization* of the paper describe.
#
# | | |
# |---|---|
# | **reads** | any tree of DICOM files with a `labels.csv`; or nothing, and then it writes a phantom cohort first |
# | **writes** | `cohort/`: the slices, one table of slices and one of series, and what was rejected and why |
# | **takes** | about 25 ms per slice on one core to prepare, and 50 to 100 ms per slice to write the phantom |
#
# The paper's 1102 patients are private. A *phantom* takes their place: simulated patients whose enhancement, anatomy,
# scanner and labels follow published measurements, written as real DICOM. A result on phantoms shows whether the
# paper's *methods* behave as the paper says. It says nothing about patients.
#
# **To run it**, `make lab` in the repository installs what is needed and opens JupyterLab. Two free services open it in
# the browser, once OWNER/REPOSITORY says where the repository lies:
#
# - Binder, which installs all by itself:
#   `https://mybinder.org/v2/gh/OWNER/REPOSITORY/HEAD?urlpath=lab/tree/notebooks/01_prepare_cohort.ipynb`
# - Colab: `https://colab.research.google.com/github/OWNER/REPOSITORY/blob/main/notebooks/01_prepare_cohort.ipynb`.
#   There, first run these lines in a cell of their own, and restart the session if Colab asks for it:
#
# ```
# !git clone https://github.com/OWNER/REPOSITORY repository
# %cd repository
# %pip install --constraint requirements.txt -e .
# ```

# %%
from IPython.display import display
import matplotlib.pyplot as plt
import pandas as pd

from lib.cohort import Cohort
from lib.files import resolve
from lib.labels import secret_key
from lib.paper import PHASES
from lib.phantom.cohort import PHANTOM_KEY, plan_cohort, write_cohort
from lib.phantom.labelling_reader import label_ceiling, reader_agreement
from lib.preparation import prepare_cohort
from lib.provenance import begin
from lib.slice_choice import middle_slices

# %% tags=["parameters"]
source: str = "phantom"  # "phantom" writes a phantom cohort into dicom_folder first; "dicom" takes what is there
dicom_folder: str = "runs/quick/dicom"  # tree of DICOM files
labels: str = ""  # labels.csv; if empty, the one in dicom_folder, or none in apply mode
cohort: str = "runs/quick/cohort"  # where the prepared slices go
private: str = "runs/quick/private"  # where source paths and the table of ids go (readable by their owner only)
split: str = "train_val_test"  # "train_val_test" needs labels; "apply" takes every series, for a trained network
key: str = ""  # secret behind ids and split; if empty, a public one for the phantom, else one kept in private
patients: int = 140  # number of patients in the phantom cohort
slices: int = 3  # number in each phantom series of a training or validation patient, spread over the kidneys
test_slices: int = 5  # number in each phantom series of a test patient, adjacent; 0: all of the kidneys, 20 to 25
matrix: int = 256  # rows and columns of a phantom slice
labelling: str = "reader"  # what labels a phantom series: a simulated "reader" of the images, or the "scan_time"
reader_error: float = 0.085  # SD of the reader's error on a scale of its own; two such readers have a kappa of .86
attachments: bool = False  # whether phantoms wear electrodes and wires and hold surgical clips, in every phase
seed: int = 2018  # random seed of the phantom's training and validation patients
test_seed: int = 1184  # random seed of the phantom's test patients, on whom nothing was tuned
processes: int = 2  # number of processes that work at the same time

# %% [markdown]
# ## The phantom
#
# The split follows from the patient's id, so it is known before the patient is simulated. Training and validation
# series hold a few slices that are spread over the kidneys, because more patients teach a network more than more slices
# of the same patient do. Test series hold neighbouring slices, because in the paper neighbouring slices vote: here
# five in the middle of the kidneys by default, in the published study 20 to 25 from end to end, in the paper 23.

# %%
dicom_folder, cohort, private = map(resolve, (dicom_folder, cohort, private))
key = key or (PHANTOM_KEY if source == "phantom" else secret_key(private))
if source == "phantom":
    plan = {"slices": slices, "test_slices": test_slices, "seed": seed, "test_seed": test_seed, "key": key}
    look = {"matrix": matrix, "labelling": labelling, "reader_error": reader_error}
    look |= {"attachments": True} if attachments else {}
    begin(dicom_folder, parameters=plan | look | {"patients": patients}, code=("lib/phantom/cohort.py",))
    write_cohort(dicom_folder, plan_cohort(patients, **plan), processes=processes, **look)
elif source != "dicom":
    raise ValueError(f'source must be "phantom" or "dicom", got {source!r}.')

# %% [markdown]
# ## Preparation
#
# Files are gathered into series and sorted by position. Their pixel values become Hounsfield units. Everything outside
# the body is removed, table and clothing included. Only slices between the lower and the upper end of the kidneys are
# kept. The table lists the series that were rejected, and why.

# %%
found = labels or (dicom_folder / "labels.csv" if (dicom_folder / "labels.csv").exists() else None)
prepare_cohort(dicom_folder, cohort, labels=found, split=split, key=key, private=private, processes=processes)
prepared = Cohort.open(cohort)
series = pd.read_csv(cohort / "series.csv", dtype={"patient": str, "series": str})
rejected = pd.read_csv(cohort / "rejected.csv")
people = series.patient.nunique()
print(f"{len(prepared.slices)} slices of {len(series)} series of {people} patients; {len(rejected)} series rejected")
display(rejected)

# %% [markdown]
# ## What looks like no abdomen
#
# A series of another part of the body (a head, a chest, a pelvis, a limb) can be prepared, but a network for kidneys
# has nothing to say about it. Such slices are recognised by a narrow body, by much lung or by much bone.

# %%
warned = series[series.warning.notna()]
print(f"{len(warned)} series with slices that look like no abdomen at the height of the kidneys")
with pd.option_context("display.max_colwidth", None):
    display(warned[["series", "slices", "warning"]])

# %% [markdown]
# ## What the cohort holds
#
# The table counts slices, series and patients by split and phase. A *series* is one scan in one reconstruction.

# %%
counted = prepared.slices.groupby(["split", "phase"])
counts = counted.agg(slices=("slice", "size"), series=("series", "nunique"), patients=("patient", "nunique"))
display(counts.reindex(PHASES, level="phase"))

# %% [markdown]
# In how many phases was a patient scanned, and how many series does a patient have?

# %%
if series.phase.notna().any():
    phases_of_a_patient = series.groupby("patient").phase.nunique()
    print(f"phases per patient: {phases_of_a_patient.mean():.1f} ± {phases_of_a_patient.std():.1f} (the paper: 2 ± 1)")
    print(f"examinations per patient: {len(series) / people:.2f} (the paper: 3253 / 1102 = 2.95)")

# %% [markdown]
# A slice through the middle of the kidneys in each phase, displayed as in abdominal reading (level 40 HU, width
# 400 HU). The space outside the body is empty: the body mask has removed it.

# %%
shown = middle_slices(prepared.slices)
figure, axes = plt.subplots(1, len(shown), figsize=(2 * len(shown), 2.2), squeeze=False)
for axis, hu, phase in zip(axes[0], prepared.read_hu(shown, 256), shown.phase, strict=True):
    axis.imshow(hu, cmap="gray", vmin=-160, vmax=240)
    axis.set_title(phase)
    axis.set_axis_off()

# %% [markdown]
# ## How well the labels can be known
#
# The simulated reader sees how far contrast medium has come in kidneys, vessels, liver and spleen, with some error. Two
# numbers say what this error means. *Cohen's kappa* is the agreement of two such readers beyond chance; radiologists
# reach about .86 on these phases. The *ceiling* is the F1 score of an observer who knows the truth and is judged by the
# labels: no network can be expected to score higher.

# %%
if source == "phantom":
    truth = pd.read_csv(dicom_folder / "truth.csv")
    print(f"kappa between two readers: {reader_agreement(truth):.3f}")
    display(label_ceiling(truth).round(3))

# %% [markdown]
# ## Against the paper: standardisation
#
# The paper subtracts the mean of the training voxels and divides by their standard deviation (SD): -23.3 ± 144.1 HU.
# These can only be numbers of voxels *inside* the body. With the air around it the mean would lie near -500 HU. Here
# both are measured on the training split alone. They depend a little on the image size, so that each network keeps its
# own.

# %%
if split == "train_val_test":
    standardisation = prepared.standardise(matrix)
    print(f"mean ± SD inside the body, training split: {standardisation.mean:.1f} ± {standardisation.sd:.1f} HU")
    shared = prepared.slices.groupby("patient").split.nunique()
    assert shared.max() == 1, "a patient is in two splits"
    sizes = prepared.slices.groupby("split").patient.nunique()
    print((sizes / sizes.sum()).round(3).to_dict(), "(the paper: 705, 176 and 221 of 1102 = 0.64, 0.16, 0.20)")

# %% [markdown]
# ## What we saw
#
# The slices are in one format, whatever scanner or hospital they come from, and every patient is in one split only. The
# phases of the phantom are cut out of a continuum, so that its labels, like those of radiologists, are least certain
# between neighbouring phases.
