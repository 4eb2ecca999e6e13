# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 92 · Look at the phantom
#
# How far do the simulated patients resemble real ones? This notebook compares the phantom cohort with published
# measurements of patients: the images, the enhancement over time, the Hounsfield units (HU), the noise, the kidneys and
# the labels. The paper has no such comparison.
#
# | | |
# |---|---|
# | **reads** | the phantom's `dicom/truth.csv`, the `cohort/` of 01_prepare_cohort, published measurements in `lib/` |
# | **writes** | `tables/phantom_{hu,geometry,noise,label_ceiling}.csv`; figures `phantom_*` |
# | **takes** | about a minute on one core, most of it for the kidneys and the noise |
#
# Whoever reads a result on the phantom should look at the phantom first. The end of the notebook says what follows from
# its construction, and what still looks wrong.

# %%
from dataclasses import replace

from IPython.display import display
import numpy as np
import pandas as pd

from lib.body_mask import body_mask
from lib.cohort import Cohort
from lib.dicom import find_series, read_volume
from lib.figures.phantom import draw_curves, draw_geometry, draw_hu, draw_images, draw_spectra
from lib.figures.style import save_figure
from lib.labels import hashed_id, read_labels
from lib.paper import PHASES, published
from lib.phantom.kinetics import Enhancement, Injection, Subject
from lib.phantom.labelling_reader import TURNS, label_ceiling, phase_by_time
from lib.phantom.study import Examination
from lib.titles import PHASE_TITLES
from lib.phantom.measures import (
    compare_hu, kidney_geometry, kidney_masks, mean_frequency, measure_tissues, noise_power, scan_liver
)  # fmt: skip
from lib.provenance import write_sidecar
from lib.files import atomic_path, require, resolve

# %% tags=["parameters"]
dicom_folder: str = "runs/quick/dicom"  # folder of the phantom's DICOM files, with truth.csv
cohort: str = "runs/quick/cohort"  # made by 01_prepare_cohort
key: str = "philbrick2018"  # the key of 01_prepare_cohort, from which the ids of the series follow
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go
real_ct: str = ""  # folder of real CT to show beside the phantom, with labels.csv for the phases; empty: none
shown: int = 4  # number of patients who are shown in all their phases
kidney_patients: int = 100  # number of patients whose kidneys are measured
noise_patients: int = 40  # number of patients who are scanned again to measure the noise
series_measured: int = 200  # number of series in which HU are measured; 0 takes all

# %% [markdown]
# ## The patients
#
# How many patients and phases are there? The table describes the patients; `output_factor` is the cardiac output as a
# multiple of the expected one.

# %%
truth = pd.read_csv(require(resolve(dicom_folder) / "truth.csv", "01_prepare_cohort"), dtype={"patient": str})
prepared = Cohort.open(require(cohort, "01_prepare_cohort"))
truth["series"] = [hashed_id(key, "series", uid) for uid in truth["series_uid"]]
known = truth["series"].isin(prepared.slices["series"])
if not known.any():
    raise ValueError(f"No series of {dicom_folder} is in {cohort}. Were both made by one run, with key={key!r}?")
truth = truth[known].reset_index(drop=True)
if "seed" not in truth:
    raise ValueError(f"{dicom_folder}/truth.csv has no seeds: an older version wrote it, run 01_prepare_cohort again.")
people = truth.drop_duplicates("patient")
print(f"{len(people)} patients, {len(truth)} series, {truth['scan'].add(1).groupby(truth['patient']).max().mean():.2f}"
      " phases per patient")  # fmt: skip
people[["age", "weight_kg", "output_factor"]].describe().loc[["mean", "std", "min", "max"]].round(2)

# %% [markdown]
# ## All phases of a patient
#
# The figure shows the patients with the most phases. Each image is the slice nearest to the middle of the kidneys, at
# level 40 HU and width 400 HU.
#
# Anatomy, body and scanner of a patient stay the same from phase to phase. Contrast, breath and noise change. Urine
# does not brighten before contrast is excreted. Gas, bone and fat look the same in every phase.

# %%
middle = (prepared.slices["kidney_position"] - 0.5).abs().sort_values(kind="stable").index
nearest = prepared.slices.loc[middle].drop_duplicates("series")
nearest = nearest[nearest["reconstruction"] == 1]
most = nearest.groupby("patient")["phase"].nunique().sort_values(ascending=False, kind="stable").index[:shown]
chosen = nearest[nearest["patient"].isin(most)].drop_duplicates(["patient", "phase"]).set_index(["patient", "phase"])


def image_of(patient, phase):
    row = chosen.reset_index().query("patient == @patient and phase == @phase")
    return prepared.read_hu(row)[0] if len(row) else None


rows = {f"Patient {n + 1}": [image_of(patient, phase) for phase in PHASES] for n, patient in enumerate(most)}
drawn = {"phantom_phases": draw_images(rows, list(PHASE_TITLES.values()))}
drawn["phantom_phases"]

# %% [markdown]
# ## Enhancement over time
#
# Does contrast reach the organs when it should, and is there as much of it as there should be? The curves of the
# phantom are those of the median adult of the cohort (81 kg, 38 g of iodine in 30 s). They are compared with what
# Goshima et al. (Eur J Radiol 2007;63:420) measured in 128 patients.
#
# Goshima et al. counted time from a trigger, the moment at which the aorta reached +50 HU. The figure counts time from
# the start of the injection. Their times are therefore drawn at the time of the trigger, which is printed below, plus
# their own.
#
# **Part A.** The curves are the phantom's. The marks are Goshima's, with bars for the published ranges of HU and of
# time:
#
# - renal artery 240 to 288 HU (to be compared with the curve of the aorta),
# - cortex 195 to 217 HU,
# - cortex minus medulla 110 to 140 HU, then less than 30 HU from 45 s after the trigger (triangle),
# - medulla 145 HU at 55 s after the trigger (square).
#
# **Part B.** A lower cardiac output gives a later and higher peak in the aorta. In a flow phantom with an injection of
# 20 s (Kidoh 2017) the peak was 291, 365 and 420 HU at 5.6, 4.2 and 2.8 L/min.

# %%
times = np.arange(0, 240, 0.5)
adult = Subject("M", age=60, height_m=1.72, weight_kg=81, renal_factor=0.87)
injection = Injection(iodine_g=38, concentration=350, rate=38000 / 350 / 30)
model = Enhancement(adult, injection)
curves = {organ: model.at(times, organ) for organ in model.curves}
trigger = float(times[np.argmax(curves["aorta"] > 50)])
print(
    f"trigger {trigger:g} s after the start of the injection; expected output {adult.cardiac_output * 0.06:.1f} L/min"
)
outputs = {f: replace(adult, output_factor=f) for f in (0.6, 0.8, 1.0, 1.2, 1.4)}
by_output = {f: Enhancement(subject, injection).at(times, "aorta") for f, subject in outputs.items()}
drawn["phantom_curves"] = draw_curves(times, curves, trigger, by_output)
drawn["phantom_curves"]

# %% [markdown]
# Half of the cohort's hospitals give 0.47 g of iodine per kilogram of body weight, and half give a fixed volume.
# Goshima's patients received 0.6 g per kilogram.
#
# The kinetics were fitted to two sources: to these measurements, and to the absolute HU of the next section, where
# doses are lower. The two sources contradict each other at 45 s after the trigger. There the difference between cortex
# and medulla is 30 HU in one and 50 HU in the other. The phantom follows the second.


# %%
def after_trigger(model):
    aorta, cortex, medulla = (model.at(times, organ) for organ in ("aorta", "cortex", "medulla"))
    at = times - times[np.argmax(aorta > 50)]
    gap = cortex - medulla
    values = [np.interp(10, at, aorta), cortex.max(), at[cortex.argmax()], np.interp(20, at, gap)]
    return [*values, np.interp(45, at, gap), np.interp(55, at, medulla), at[np.argmax((gap < 30) & (at > 30))]]


goshima = Enhancement(replace(adult, height_m=1.65, weight_kg=62), Injection(37.2, concentration=300, rate=4))
measure = ["renal artery at 10 s (HU)", "cortex, peak (HU)", "peak of the cortex (s)", "cortex - medulla at 20 s (HU)",
           "cortex - medulla at 45 s (HU)", "medulla at 55 s (HU)", "cortex - medulla below 30 HU (s)"]  # fmt: skip
after = {"Goshima 2007": ["240-288", "195-217", 25, "110-140", "< 30", 145, "45"],
         "median adult": after_trigger(model), "their protocol": after_trigger(goshima)}  # fmt: skip
pd.DataFrame(after, index=pd.Index(measure, name="after the trigger")).map(
    lambda v: v if isinstance(v, str) else round(v)
)

# %% [markdown]
# ## Hounsfield units, as measured in the images
#
# Does each tissue have the HU that patients have in that phase? In each series the median HU is taken over the core of
# a tissue. The core holds the voxels that lie more than half as deep inside the tissue as its deepest voxel. A
# radiologist, too, places the region of interest in the middle of the largest section. Mean and standard deviation (SD)
# are those between series.
#
# The position of a tissue is known from the phantom's segmentations, so no error of outlining enters. Blur, noise and
# thick slices do enter.
#
# In the table below the figure, `off` marks a mean that is more than one published SD away, or a spread that is less
# than half or more than twice the published one. `in_sd` is the difference of the means in published SDs.

# %%
first = prepared.slices[prepared.slices["reconstruction"] == 1]
series = first["series"].drop_duplicates().sort_values()  # ids are hashes: the first are a random choice
used = first[first["series"].isin(series.iloc[: series_measured or None])]
in_patients = published("renal_ct_hu")
measured = measure_tissues(prepared, used, list(in_patients["tissue"].unique()))
hu = compare_hu(measured, in_patients)
drawn["phantom_hu"] = draw_hu(hu)
drawn["phantom_hu"]

# %%
off = hu[hu["off"] != ""]
print(f"{len(off)} of {len(hu)} are off; the mean absolute difference is {hu['in_sd'].abs().mean():.2f} published SD")
display(off.round(1))

# %% [markdown]
# ## Noise
#
# Does the noise have the strength and the grain of real CT? Patients are scanned again at 512 x 512 in the
# nephrographic phase. Squares of 32 x 32 pixels are placed inside the liver, and a plane is fitted to each and
# subtracted. What is left is the noise. Its *power spectrum* says how much of it there is at each spatial frequency:
# coarse grain has low frequencies, fine grain high ones.
#
# **Upper row.** Noise power spectra by slice thickness: lines in colours are the phantom's. The grey range is where the
# spectra of public scans with the same kernel peak, and the dotted line is the mean frequency of those. Crosses are the
# one spectrum that was measured at each frequency (GE, 2.5 mm).
#
# **Lower row.** Standard deviation of the noise: dots are the phantom's, crosses those of patients. A dotted line
# stands for patients whose slice thickness is not known.

# %%
spectra, scan = [], ["manufacturer", "kernel", "thickness_mm"]
for row in people.head(noise_patients).itertuples():
    patches, pixel = scan_liver(Examination(row.patient, row.seed, row.slices, row.placing, 512))
    if len(patches) > 5:
        one = noise_power(patches, pixel)
        sd = np.sqrt((one["power"] * one["area"]).sum())
        spectra.append(one.assign(**{name: getattr(row, name) for name in scan}, patient=row.patient, sd_hu=sd))
spectra = pd.concat(spectra, ignore_index=True)
mean_spectra = spectra.groupby([*scan, "frequency"], as_index=False)[["power", "area"]].mean()
sds = spectra.drop_duplicates("patient").groupby(scan)["sd_hu"].agg(["mean", "size"])
mean_spectra = mean_spectra.merge(sds["mean"].rename("sd_hu").reset_index(), on=scan)

# %%
matches = {"Br38f": ["Siemens mCT"], "STANDARD": ["GE LightSpeed VCT", "GE LightSpeed thin"],
           "FC17": ["Toshiba Aquilion ONE"], "B": ["Pancreas-CT"]}  # fmt: skip
public = published("renal_ct_noise").set_index("scanner")
noise = []
for (make, kernel, thickness), one in mean_spectra.groupby(scan):
    real = public.loc[matches.get(kernel, [])].sort_values("thickness_mm", key=lambda mm: (mm - thickness).abs())
    real = real.iloc[0] if len(real) else pd.Series(dtype=float)
    peak, mean = one.loc[one["power"].idxmax(), "frequency"], mean_frequency(one)
    noise.append({
        "manufacturer": make, "kernel": kernel, "thickness_mm": thickness,
        "patients": sds.loc[(make, kernel, thickness), "size"],
        "sd_hu": sds.loc[(make, kernel, thickness), "mean"], "peak_per_mm": peak, "mean_per_mm": mean,
        "published_thickness_mm": real.get("thickness_mm"), "published_sd_hu": real.get("sd_hu"),
        "published_peak": real.get("peak_low_per_mm"), "published_mean_per_mm": real.get("mean_per_mm"),
    })  # fmt: skip
noise = pd.DataFrame(noise)
display(noise.round(2))
drawn["phantom_noise"] = draw_spectra(mean_spectra, published("renal_ct_noise"), matches)
drawn["phantom_noise"]

# %% [markdown]
# ## Kidneys
#
# Do the kidneys have the size and the position of real ones? Both kidneys of each patient are painted on slices 3 mm
# apart, without cysts and tumours, and measured as masks.
#
# The blue histograms show the phantom's patients. The black line and the grey band are mean and SD of the 317
# lesion-free kidneys of KiTS23. The dotted lines are their 5th and 95th percentiles, where these are published. The
# numbers above each panel are mean ± SD of the phantom, then of the patients.

# %%
spacing = (3.0, 1.5, 1.5)
measures = []
for row in people.head(kidney_patients).itertuples():
    anatomy = Examination(row.patient, row.seed, row.slices, row.placing, 512).anatomy
    measures.append(kidney_geometry(*kidney_masks(anatomy, spacing[1], spacing[0]), spacing))
kidneys = pd.DataFrame(measures)
geometry = published("kidney_geometry").set_index("quantity")
statistics = kidneys.describe(percentiles=[0.05, 0.95]).T[["mean", "std", "5%", "95%"]]
geometry = geometry.join(statistics.rename(columns=lambda name: f"phantom_{name}"), how="left")
display(geometry.drop(columns=["p5", "p95"]).round(1))
drawn["phantom_kidneys"] = draw_geometry(kidneys, published("kidney_geometry"))
drawn["phantom_kidneys"]

# %% [markdown]
# Measures of a single kidney enter as the mean of a patient's two kidneys. The spread of extent, axes, section and
# volume is therefore a little smaller than between single kidneys.
#
# ## Beside real slices
#
# How much does the phantom look like a patient? The figure shows the middle slice of up to four real series, and below
# each of them two phantom slices of the same phase, at the same window.
#
# The phases of real series are read from `labels.csv`. The last section speaks of four public slices (COVID-19-NY-SBU
# and Pancreas-CT, from The Cancer Imaging Archive). Their phases were judged from the images.

# %%
read_from_image = {"A027284": "noncon", "A062055": "cm-neph", "A058062": "neph", "PANCREAS_0001": "cm-neph"}
found = find_series(resolve(real_ct))[0] if real_ct and resolve(real_ct).is_dir() else []
labels_file = resolve(real_ct) / "labels.csv"
labels = read_labels(labels_file, {item.uid for item in found}) if found and labels_file.exists() else None
real, real_phases = [], []
for item in found[:4]:
    volume = read_volume(item)
    hu_image = volume.hu[len(volume.hu) // 2].astype(np.float32)
    real.append(np.where(body_mask(hu_image, volume.spacing_mm[2]), hu_image, np.nan))
    known = labels is not None and item.uid in labels.index
    real_phases.append(labels.loc[item.uid, "phase"] if known else read_from_image.get(item.patient))
print(f"{len(real)} real slices" if real else f"There is no real CT in {real_ct!r}, so none is shown.")

# %%
if real:
    once = nearest[~nearest["patient"].isin(most)].drop_duplicates("patient")  # no patient twice
    taken = {phase: iter(once[once["phase"] == phase].index) for phase in PHASES}
    pairs = {"Real": real}
    for number in range(2):
        picks = [next(taken[phase], None) if phase else None for phase in real_phases]
        images = [None if pick is None else prepared.read_hu(prepared.slices.loc[[pick]])[0] for pick in picks]
        pairs[f"Phantom {number + 1}"] = images
    drawn["phantom_beside_real"] = draw_images(pairs, [PHASE_TITLES.get(phase, "not known") for phase in real_phases])
drawn.get("phantom_beside_real")

# %% [markdown]
# ## The highest score that the labels allow
#
# Each scan is labelled by a simulated reader, who makes small errors. Even a perfect observer, who makes none, cannot
# agree with such labels everywhere. This agreement is the ceiling: no network can be expected to score higher. The
# table gives it for the reader's labels, and for the same scans labelled by the scan time alone.

# %%
by_time = truth.assign(label=[phase_by_time(None if np.isnan(t) else t) for t in truth["scan_time_s"]])
ceilings = {"reader": label_ceiling(truth), "scan time": label_ceiling(by_time)}
if (truth["labelling"] != "reader").any():
    ceilings["as labelled"] = ceilings.pop("reader")
ceiling = pd.concat(ceilings, axis=1)
display(ceiling.round(3))
print("macro F1:", {name: round(float(table["f1"].mean()), 3) for name, table in ceilings.items()})
print(f"reader and scan time agree on {(truth['label'] == by_time['label']).mean():.1%} of the series")
counts = pd.crosstab(by_time["label"].rename("scan time"), truth["label"].rename("reader"))
counts.reindex(index=PHASES, columns=PHASES, fill_value=0)

# %% [markdown]
# The reader's label is a function of the image. It depends on whether the aorta is enhanced and whether urine is
# bright. Otherwise it depends on an index: medulla against cortex (60 %), hepatic veins against aorta (20 %) and liver
# against spleen (20 %), each ratio squared. A network that learns such labels *must* look at these organs.
#
# On the phantom with the reader's labels, the paper's claims (numbered as in 17_compare_with_paper) therefore fall into
# two groups:
#
# - **True by construction, at least in part**: that maps mark kidney, renal vessels, aorta and vena cava (C46, C49,
#   C55, C56) and the cortex (C47); the signs of C48 (an unenhanced scan has dark vessels, a corticomedullary one a
#   bright cortex and a dark medulla); that urine decides the pyelographic phase.
# - **Open**: which map is more specific, at which layer, and how SAM compares with Grad-CAM (C50 to C54 and later);
#   whether voting helps; whether errors fall into neighbouring phases, within the ceiling above.
#
# If the scan time is the label, the rule names no organ. Every organ enhances with time, and the network has to find
# out which one says most. A map that marks the kidney then says something about the kidney and not about the reader, so
# C46, C49 and C56 become tests. The signs of C48 still follow from the kinetics, and excretion is still the only sign
# of its phase. This control has a price: patients differ in cardiac output, which now blurs the limits between the
# phases. The limits are printed below.
#
# To run the control, set `labelling = "scan_time"` in `01_prepare_cohort`. 93_compare_runs gives the commands and shows
# the two sets of verdicts side by side.

# %%
print("times at which one phase passes into the next, in s after the start of the injection:", TURNS)

# %% [markdown]
# ## Save

# %%
figures, tables = resolve(figures), resolve(tables)
results = {"phantom_hu": hu, "phantom_geometry": geometry.reset_index(), "phantom_noise": noise}
for name, table in results.items():
    with atomic_path(tables / f"{name}.csv") as file:
        table.round(4).to_csv(file, index=False)
with atomic_path(tables / "phantom_label_ceiling.csv") as file:
    pd.concat(ceilings, names=["label"]).reset_index().round(4).to_csv(file, index=False)
parameters = {"series_measured": series_measured, "kidney_patients": kidney_patients, "noise_patients": noise_patients}
for name, figure in drawn.items():
    files = save_figure(figure, figures / name)
    inputs = (resolve(dicom_folder) / "truth.csv",)
    write_sidecar(files[0], notebook="92_look_at_phantom", parameters=parameters, inputs=inputs)

# %% [markdown]
# ## What still looks wrong
#
# The faults of anatomy and image do not depend on the phase, so they do not reveal it. Even so, a network may find the
# phantom's five phases easier than those of patients.
#
# **Kidneys.** Kidneys are ellipsoids with a notch. They are a little too long, and the extent of both together is a
# little too short; the shape of the poles is a compromise between the two. Their outline is smooth. There are no scars,
# no stones, no atrophy and no second ureter. The calyces of a slice are connected more neatly than in patients.
#
# **Other organs.** Loops of bowel are round tubes that share a wall where they touch, while real ones flatten against
# each other. Only folds that lie across the plane are drawn, and the stomach consists of three sacs. The liver has no
# caudate lobe and few vessels near its surface. The vena cava is round, and psoas and back muscles have plain shapes. A
# ureter may touch the vena cava. No patient has free fluid, a hernia, metal, lung bases in the image or a missing
# organ.
#
# **Body.** There are no clothes or skin creases, and no metal: electrodes, wires and clips come with `attachments` in
# 01_prepare_cohort only, and 95_from_phantom_to_patient shows what they do to a network. Arms turn with the trunk and
# hang beside the table.
#
# **Image.** Streaks are horizontal noise. The first real slice has dark bands between the arms and the spine, which
# come from beam hardening; this is not simulated. Neither is the oblique grain of the third real slice. Iterative
# reconstruction makes noise depend on local contrast, while here only its strength varies over the image. Thin slices
# are sharper and noisier in the same way for every manufacturer, although only one manufacturer's were measured. The
# edges of organs are sharper than breathing leaves them.
#
# **HU of veins.** From 50 to 75 s the renal veins are 20 HU brighter than the published means. The published means
# already lie above those of the aorta, and in nine scans of ten the renal veins of the phantom do too. The reason is
# that the bolus leaves the well-mixed vessels of the kidney late. A smaller vein would correct this at the expense of
# the corticomedullary phase. In thick slices the measured core of a renal vein holds fat, since these veins lie in the
# plane.
#
# Hepatic veins are thick enough to be measured in a few series only. Without blur they are 10 HU too bright in the
# corticomedullary phase, 30 HU too dark after it and 20 HU too bright in the pyelographic phase, since they fill too
# slowly once they have begun. The vena cava is 15 HU too dark in the corticomedullary and in the nephrographic phase.
#
# **Kinetics.** Well-mixed vessels smear the bolus. Five seconds after the trigger Goshima's artery is at 240 HU; the
# phantom's, with his protocol, is near 200 HU. The cortex then peaks 25 HU too high, and the medulla is 25 HU behind.
# Goshima's cortex and medulla differ by less than 30 HU from 45 s on, and the phantom's from 60 s on. The published HU
# by phase ask for 50 HU at that time, at three quarters of the dose, and the public slices above look like that. At
# half the cardiac output the aorta is too bright by a tenth.
#
# **Labels.** Five phases are cut out of a continuum by one index. Radiologists disagree for more reasons: motion, an
# obstructed or absent kidney, heart failure, a scan that was started late.

# %% [markdown]
# ## What we saw
#
# The phantom is built from published enhancement, HU, noise and kidney sizes, and the tables above say where it still
# differs from them. With the reader's labels, claims on maps of kidneys and vessels hold at least in part by
# construction; the control with scan-time labels shows whether a network finds these organs by itself. No network can
# be expected to agree with the labels better than the ceiling above.
