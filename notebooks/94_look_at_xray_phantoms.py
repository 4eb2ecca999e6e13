# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 94 · Look at the X-ray phantoms
#
# **Do the simulated radiographs look and behave like radiographs?** 21_grad_cam_architectures and
# 22_grad_cam_dental_layers are run on them. This notebook shows chests with and without pneumothorax and dental plates
# with their artifacts, holds physics and anatomy against published numbers, writes them as DICOM, and ends with what
# still looks wrong.
#
# | | |
# |---|---|
# | **reads** | nothing but the tables in `lib/published`; a real chest radiograph, if one is given |
# | **writes** | `tables/xray_{sizes,physics}.csv`; figures `xray_*` |
# | **takes** | about three minutes on one core |
#
# ![Simulated chest radiographs without and with pneumothorax](../figures/xray_chests.png)
#
# **Six simulated chests, as published by this project.** Above without, below with pneumothorax, patient by patient;
# red outlines the gap between lung and chest wall, blue a chest tube.

# %%
import shutil
import subprocess

from IPython.display import display
import numpy as np
import pandas as pd
from pydicom import dcmread
from scipy.ndimage import gaussian_filter

from lib.figures.style import save_figure
from lib.figures.xray import draw_attenuation, draw_power, draw_radiographs, draw_sizes
from lib.files import atomic_path, resolve
from lib.provenance import write_sidecar
from lib.xray.beam import beam
from lib.xray.chest import Chest
from lib.xray.dental import Mouth, show
from lib.xray.detector import resize
from lib.xray.dicom_files import chest_image, dental_image, mask_segmentation, write
from lib.xray.measures import (
    attenuation_table, pneumothorax_sizes, power_spectrum, scatter_fractions, seconds_per_image
)  # fmt: skip
from lib.xray.plate_artifacts import KINDS, spoil

# %% tags=["parameters"]
pixels: int = 512  # rows and columns of the chests that are shown
patients: int = 120  # chests whose pneumothorax is measured
oversample: int = 2  # rays across a pixel of the chests that are shown
real_chest: str = ""  # DICOM file of a real chest radiograph to lay beside; empty: none
dicom: str = "runs/quick/xray"  # where the example DICOM files go
tables: str = "runs/quick/tables"  # where the tables go
figures: str = "runs/quick/figures"  # where the figures go

# %% [markdown]
# ## Six chests
#
# Above: without pneumothorax. Below: the same patients with one; red is what a reader would outline, the rays that pass
# through air in the pleural cavity and through no lung; the third has a chest tube, outlined in blue. A pair has
# the same anatomy, position and noise. It differs in the pneumothorax and in what it does: the lung is smaller and
# denser, its vessels have moved, and mediastinum and diaphragm have shifted.

# %%
seeds = (4, 13, 11)
above = [Chest(seed).radiograph(pixels, oversample=oversample) for seed in seeds]
below = [
    Chest(seed).radiograph(pixels, pneumothorax=True, chest_tube=seed == seeds[-1], oversample=oversample)
    for seed in seeds
]
drawn = {"xray_chests": draw_radiographs(
    [[image.grey for image in above], [image.grey for image in below]],
    masks=[[None] * 3, [(image.gap, image.tube) for image in below]],
)}  # fmt: skip
display(drawn["xray_chests"])

# %% [markdown]
# One of them at full size, without outlines: the line of the visceral pleura, no vessels beyond it.

# %%
drawn["xray_chest"] = draw_radiographs([[below[0].grey]])
display(drawn["xray_chest"])

# %%
columns = ["seed", "side", "apex_mm", "middle_mm", "base_mm", "volume_percent", "gap_share", "chest_tube", "age"]
pd.DataFrame([image.facts for image in below])[columns].round(3)

# %% [markdown]
# ## How large a pneumothorax is
#
# Collins et al. (AJR 1995;165:1127) measured the volume of pneumothoraces by CT and the gaps at apex (A), beside the
# middle (B) and beside the base (C) of the lung on radiographs: volume (%) = 4.2 + 4.7 (A + B + C cm). The share of the
# image that the mask covers is held against the 2,669 positive cases of a public set (SIIM-ACR 2019; dotted: the 5th,
# 50th and 95th percentile).

# %%
sizes = pneumothorax_sizes(range(patients))
together = sizes["sum_cm"].corr(sizes["volume_percent"])
slope, offset = np.polyfit(sizes["sum_cm"], sizes["volume_percent"], 1)
drawn["xray_sizes"] = draw_sizes(sizes, {"5 %": 0.13, "median": 0.82, "95 %": 4.37})
display(drawn["xray_sizes"])
print(f"phantoms: volume = {offset:.1f} + {slope:.2f} (A + B + C), r = {together:.2f}")
sizes["gap_percent"].describe(percentiles=[0.05, 0.5, 0.95]).round(2)

# %% [markdown]
# ## Attenuation and scatter
#
# Every tissue is expressed by water and hydroxyapatite (lines) and held against the table that its composition gives
# (symbols). Without a grid, scatter is about 90 % of the signal behind the mediastinum and 60 to 70 % behind the lungs
# (Niklason et al., Med Phys 1981;8:677); the images are made with a grid.

# %%
attenuation = attenuation_table()
drawn["xray_attenuation"] = draw_attenuation(attenuation)
display(drawn["xray_attenuation"])
worst = (attenuation["basis_per_cm"] / attenuation["table_per_cm"] - 1).abs().groupby(attenuation["tissue"]).max()
scatter = pd.DataFrame([scatter_fractions(seed) for seed in range(8)]).agg(["mean", "min", "max"])
physics = pd.concat([
    pd.DataFrame({"what": [f"largest error of {t}, two materials" for t in worst.index], "phantom": worst.to_numpy(),
                  "published": "below .02 wanted"}),
    pd.DataFrame({"what": [f"scatter fraction, {p}" for p in scatter], "phantom": scatter.loc["mean"].to_numpy(),
                  "published": ["about .9", ".6 to .7"]}),
])  # fmt: skip
display(physics.round(4))
for name in ("chest", "dental"):
    print(f"{name} beam: mean energy {beam(name).photons @ beam(name).energy_kev:.1f} keV")

# %% [markdown]
# ## Dental plates
#
# Bitewings in the first row, periapical radiographs in the second. Plates of size 2 (31 x 41 mm), 64 µm pixels, 65 kV.

# %%
mouths = [
    [Mouth(seed, view) for seed in seeds] for view, seeds in (("bitewing", (3, 8, 12)), ("periapical", (5, 6, 9)))
]
plates = [[mouth.expose() for mouth in row] for row in mouths]
drawn["xray_plates"] = draw_radiographs([[show(plate.signal, plate.plate) for plate in row] for row in plates])
display(drawn["xray_plates"])

# %% [markdown]
# The same bitewing, clean and with each of the seventeen artifacts. They change the light that the scanner reads,
# before the logarithm; the mask is where that light changed by more than 5 %.

# %%
plate = plates[0][0]
spoiled = {"clean": (plate.signal, np.zeros(plate.signal.shape, bool))}
for number, kind in enumerate(KINDS):
    spoiled[kind] = spoil(plate.signal, kind, np.random.default_rng(number + 5), pixel_mm=plate.pixel_mm)
sheet = [show(signal, plate.plate)[::2, ::2] for signal, _ in spoiled.values()]
kinds, six = list(spoiled), range(0, 18, 6)
drawn["xray_artifacts"] = draw_radiographs([sheet[k : k + 6] for k in six], labels=[kinds[k : k + 6] for k in six])
display(drawn["xray_artifacts"])
shares = {kind: f"{mask.mean():.2%}" for kind, (_, mask) in spoiled.items()}
pd.DataFrame({"artifact, in the order of the figure": list(shares), "mask": list(shares.values())})

# %% [markdown]
# ## As DICOM
#
# Chests are written as DX, plates as IO images for presentation, 12 bits, the masks beside them as segmentations. Where
# the validator of dicom3tools is installed, it looks at them.

# %%
folder, image = resolve(dicom), below[0]
chest_file = chest_image(image.grey, 400 / pixels, seeds[0], female=image.facts["female"], age=image.facts["age"])
files = {"chest": chest_file, "chest_masks": mask_segmentation(chest_file, {"Pneumothorax": image.gap})}
signal, mask = spoiled["hair"]
facts = plate.facts
files["plate"] = dental_image(
    show(signal, plate.plate), plate.pixel_mm, facts["seed"], view=facts["view"], side=facts["side"]
)
files["plate_masks"] = mask_segmentation(files["plate"], {"Artifact": mask, "Teeth": plate.teeth})
for name, dataset in files.items():
    write(folder / f"{name}.dcm", dataset)
    if shutil.which("dciodvfy"):
        told = subprocess.run(["dciodvfy", folder / f"{name}.dcm"], capture_output=True, text=True).stderr
        print(f"{name}: {told.count('Error')} errors, {told.count('Warning')} warnings")

# %% [markdown]
# ## Beside a real chest
#
# `-p real_chest FILE`: for example RG1_UNCR.dcm of the package pydicom-data (a computed radiograph). The power spectrum
# says at which sizes an image has its contrast.

# %%
if real_chest:
    real = dcmread(resolve(real_chest))
    values = real.pixel_array.astype(float)
    values = (values - np.quantile(values, 0.01)) / (np.quantile(values, 0.99) - np.quantile(values, 0.01))
    values = np.clip(1 - values if real.PhotometricInterpretation == "MONOCHROME1" else values, 0, 1)
    told = [float(v[0]) for v in (real.get("ImagerPixelSpacing"), real.get("PixelSpacing")) if v and float(v[0]) > 0]
    spacing = told[0] if told else 350 / min(values.shape)  # where the file does not say: a plate 35 cm wide
    side = min(values.shape)
    square = values[(len(values) - side) // 2 :][:side, (values.shape[1] - side) // 2 :][:, :side]
    square = resize(gaussian_filter(square, 0.4 * side / pixels), pixels)
    shown = [image.grey for image in above[:2]]
    drawn["xray_beside_real"] = draw_radiographs([[square, *shown]], ["real", "phantom", "phantom"])
    display(drawn["xray_beside_real"])
    spectra = {"real": power_spectrum(square, spacing * side / pixels)}
    spectra |= {f"phantom {n + 1}": power_spectrum(image.grey, 400 / pixels) for n, image in enumerate(above)}
    drawn["xray_power"] = draw_power(spectra)
    display(drawn["xray_power"])
else:
    print("no real chest radiograph was given")

# %% [markdown]
# ## How long one takes

# %%
speed = {
    "chest, 128 x 128": seconds_per_image(lambda: Chest(1).radiograph(128)),
    "chest with pneumothorax, 256 x 256": seconds_per_image(lambda: Chest(1).radiograph(256, pneumothorax=True)),
    "chest, 512 x 512, two rays across a pixel": seconds_per_image(lambda: Chest(1).radiograph(512, oversample=2), 1),
    "dental plate, 484 x 640": seconds_per_image(lambda: Mouth(1).expose()),
    "artifact on a plate": seconds_per_image(
        lambda: spoil(plate.signal, "fluid stain", np.random.default_rng(0), pixel_mm=plate.pixel_mm)
    ),
}
pd.Series(speed, name="CPU seconds").round(3).to_frame()

# %%
for name, frame in {"xray_sizes": sizes, "xray_physics": physics}.items():
    with atomic_path(resolve(tables) / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
for name, figure in drawn.items():
    save_figure(figure, resolve(figures) / f"{name}.png")
write_sidecar(resolve(figures) / "xray_chests.png", notebook="94_look_at_xray_phantoms",
              parameters={"pixels": pixels, "patients": patients, "oversample": oversample})  # fmt: skip
print(", ".join(drawn))

# %% [markdown]
# ## What we saw
#
# The chests have the anatomy on which a pneumothorax is read: ribs that slope and cross, round apices, a pleural line
# with no vessels beyond it, costophrenic angles, hila from which the vessels fan out, a heart that hides lung and that
# hides most of the spine. The volume of the pneumothorax rises with the gaps as Collins' line does, four points below
# it; the masks cover what those of a public set cover; scatter and attenuation are those published.
#
# **What still looks wrong.**
#
# - The mediastinum has its outlines, but not its lines: the azygo-oesophageal recess, the paratracheal stripe and the
#   aortopulmonary window are missing. The aortic knob and the pulmonary trunk are two smooth balls on each other, and
#   the atria end upward in a point where real ones fade.
# - The trachea is hardly seen below the neck. There are no lobes, fissures, bronchial walls or calcified cartilages.
# - Vessels behind the heart fan out too brightly, and the smallest ones are missing in the outer third of the lung.
# - Ribs end in front as if they were sawn off, where real ones pass into cartilage. Clavicles are straight tubes, and
#   of the shoulder only the outlines are there.
# - Perspective is exact for bones, vessels, heart and tubes; lungs, diaphragm and body are projected as seen from their
#   middle plane. The patient always faces the detector squarely and stands straight.
# - Only one finding exists. Real negatives have effusions, infiltrates, scars and operations, which make the task of
#   21 harder than here.
# - The volume of a pneumothorax lies about four points below Collins' line: the smallest one has no volume of its own.
# - Beside the one real chest, the phantoms have sharper edges: bones are drawn with thin bright borders.
# - A pneumothorax leaves the lung's shape smooth: there are no adhesions, no loculated and no anterior pneumothorax.
# - Enamel stands out too little from dentine: a real bitewing shows it as a bright cap.
# - Teeth are generic premolars and molars with smooth crowns; buccal and lingual cusps overlap, but there is no
#   crowding, no third root that curves, no sinus, no canal of the mandibular nerve, no holder for the bite.
# - Spongy bone is filtered noise: its struts do not follow load.
# - The artifacts are drawn from descriptions. How often each occurs in practice is not modelled.
