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
# Turns a folder of DICOM CT series into slices through the kidneys, split by patient, as in *Dataset* and *Data
# Standardization* of the paper.
#
# | | |
# |---|---|
# | **reads** | any tree of DICOM files and a `labels.csv`, or nothing: then a phantom cohort is written first |
# | **writes** | `cohort/`: the slices (int16, one array a series), their table, the series, what was rejected and why |
# | **takes** | about 25 ms a slice on one core to prepare, 50 to 100 ms a slice to paint the phantom |
#
# The paper's 1102 patients are private. The phantom stands in for them: enhancement, anatomy, scanner and labels are
# simulated, so what it can show is that the *methods* behave as the paper says, not that patients do.

# %%
from IPython.display import display
import matplotlib.pyplot as plt
import pandas as pd

from lib.cohort import Cohort
from lib.labels import secret_key
from lib.paper import PHASES
from lib.phantom.cohort import PHANTOM_KEY, plan_cohort, write_cohort
from lib.preparation import prepare_cohort
from lib.provenance import begin
from lib.files import resolve

# %% tags=["parameters"]
source: str = "phantom"  # "phantom" writes DICOM into dicom_folder first; "dicom" takes what is there
dicom_folder: str = "runs/mine/dicom"  # tree of DICOM files
labels: str = ""  # labels.csv; empty: the one in dicom_folder, or none in apply mode
cohort: str = "runs/mine/cohort"  # where the prepared slices go
private: str = "runs/mine/private"  # where source paths and the map of ids go (mode 0700)
split: str = "train_val_test"  # or "apply": no labels needed, no split
key: str = ""  # decides ids and the split; empty: public for the phantom, else a secret one kept in private
patients: int = 440  # of the phantom
slices: int = 3  # a phantom series of the training and validation patients
test_slices: int = 5  # a phantom series of the test patients, neighbours of each other
matrix: int = 512  # rows and columns of a phantom slice
labelling: str = "reader"  # phantom labels from the image as a "reader" does, or by "scan_time"
reader_error: float = 0.035  # of the phantom's reader, SD
seed: int = 2018  # of the phantom's training and validation patients
test_seed: int = 1184  # of the phantom's test patients, which nothing was tuned on
processes: int = 2  # working at the same time

# %% [markdown]
# ## The phantom, where it is wanted
#
# The split is a function of the patient's id, so it is known before the patient is painted. Training and validation
# series hold a few slices spread over the kidneys. Test series hold neighbouring slices from the middle of the kidneys,
# because votes in the paper come from neighbouring slices: five of them here, 23 from end to end there.

# %%
dicom_folder, cohort, private = map(resolve, (dicom_folder, cohort, private))
key = key or (PHANTOM_KEY if source == "phantom" else secret_key(private))
if source == "phantom":
    plan = {"slices": slices, "test_slices": test_slices, "seed": seed, "test_seed": test_seed, "key": key}
    look = {"matrix": matrix, "labelling": labelling, "reader_error": reader_error}
    begin(dicom_folder, parameters=plan | look | {"patients": patients}, code=("lib/phantom/*.py",))
    write_cohort(dicom_folder, plan_cohort(patients, **plan), processes=processes, **look)
elif source != "dicom":
    raise ValueError(f'source must be "phantom" or "dicom", got {source!r}.')

# %% [markdown]
# ## Preparation
#
# Series are found and sorted by position, pixel values become Hounsfield units, table and clothing go with everything
# else outside the body, and only slices between the lower and the upper end of the kidneys stay.

# %%
found = labels or (dicom_folder / "labels.csv" if (dicom_folder / "labels.csv").exists() else None)
prepare_cohort(dicom_folder, cohort, labels=found, split=split, key=key, private=private, processes=processes)
prepared = Cohort.open(cohort)
series = pd.read_csv(cohort / "series.csv", dtype={"patient": str, "series": str})
rejected = pd.read_csv(cohort / "rejected.csv")
people = series.patient.nunique()
print(f"{len(prepared.slices)} slices of {len(series)} series of {people} patients; {len(rejected)} rejected")
display(rejected)

# %% [markdown]
# A series that lies elsewhere (a head, a chest, a pelvis, a limb) can be prepared, but a network for kidneys has
# nothing to say about it. Such slices are recognised by a narrow body, by much lung or by much bone.

# %%
warned = series[series.warning.notna()]
print(f"{len(warned)} series with slices that look like no abdomen at the kidneys' height")
display(warned[["series", "slices", "warning"]])

# %% [markdown]
# ## The cohort

# %%
counted = prepared.slices.groupby(["split", "phase"])
counts = counted.agg(slices=("slice", "size"), series=("series", "nunique"), patients=("patient", "nunique"))
display(counts.reindex(PHASES, level="phase"))

# %%
if series.phase.notna().any():
    phases_of_a_patient = series.groupby("patient").phase.nunique()
    print(f"phases a patient: {phases_of_a_patient.mean():.1f} ± {phases_of_a_patient.std():.1f} (the paper: 2 ± 1)")
    print(f"examinations a patient: {len(series) / people:.2f} (the paper: 3253 / 1102 = 2.95)")

# %% [markdown]
# A mid-kidney slice of each phase, at the window of an abdominal reading (level 40 HU, width 400 HU). Outside the body
# there is nothing: that is the body mask at work.

# %%
middle = (prepared.slices.kidney_position - 0.5).abs().sort_values(kind="stable").index
shown = prepared.slices.loc[middle].drop_duplicates("phase").set_index("phase")
shown = shown.loc[[phase for phase in PHASES if phase in shown.index] or shown.index].reset_index()
figure, axes = plt.subplots(1, len(shown), figsize=(3 * len(shown), 3), squeeze=False)
for axis, hu, phase in zip(axes[0], prepared.read_hu(shown, 256), shown.phase, strict=True):
    axis.imshow(hu, cmap="gray", vmin=-160, vmax=240)
    axis.set_title(phase)
    axis.set_axis_off()

# %% [markdown]
# ## Against the paper
#
# The paper standardises with the mean and SD of the training voxels, -23.3 ± 144.1 HU. That can only be a statistic of
# voxels *inside* the body: with the air around it included, the mean would lie near -500 HU. It is measured here on
# the training split alone; that at the network's own image size travels with the network.

# %%
if split == "train_val_test":
    standardisation = prepared.standardise(matrix)
    print(f"in-body mean ± SD of the training split: {standardisation.mean:.1f} ± {standardisation.sd:.1f} HU")
    shared = prepared.slices.groupby("patient").split.nunique()
    assert shared.max() == 1, "a patient is in two splits"
    sizes = prepared.slices.groupby("split").patient.nunique()
    print((sizes / sizes.sum()).round(3).to_dict(), "(the paper: 705, 176 and 221 of 1102 = 0.64, 0.16, 0.20)")
