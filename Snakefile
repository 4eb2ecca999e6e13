"""The graph of notebooks: DICOM -> cohort -> networks -> votes, maps, masking -> figures, tables, claims.

A rule is a notebook. It runs again when the notebook, a module of lib that it imports, an input or a parameter changes.
"""

import json
import os
import sys
from pathlib import Path

from lib.private import link_source
from lib.provenance import modules_used


# The notebooks run in the environment that snakemake runs in, wherever it was called from.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

RUN = f"runs/{config.get('run', config['profile'])}"
OWN_CT = config["profile"] == "apply"
PRIVATE = OWN_CT or "dicom" in config  # somebody's CT, not the phantom
if OWN_CT and "dicom" not in config:
    sys.exit("Say where your CT is: make apply DICOM=/path/to/folder")
DICOM = f"{RUN}/dicom"
if "dicom" in config:  # what is recorded of a run names a link in private/, not the folder
    try:
        DICOM = os.path.relpath(link_source(f"{RUN}/private", config["dicom"]))
    except FileNotFoundError as error:
        sys.exit(str(error))

PARTS = config.get("parts", 1) if PRIVATE else 1  # jobs that share the preparation
if PARTS > 1 and not config["parameters"]["01_prepare_cohort"].get("key"):
    from lib.labels import secret_key  # here, since reading it takes a moment

    secret_key(f"{RUN}/private")  # made before the parts begin, so that all have the same

TOP = config.get("top", "top")  # the network whose maps are drawn
NETWORKS = {TOP: {}} | {f"seed{seed:02d}": {"seed": seed} for seed in range(1, config.get("seeds", 0) + 1)}
if "start_from" in config:  # a folder of trained networks, from each of which the one of its name starts
    NETWORKS = {name: changes | {"start_from": f"{config['start_from']}/{name}"} for name, changes in NETWORKS.items()}
CONTROLS = config.get("control_networks", {})  # trained otherwise, to see what the maps do then
NOISE = [name for name, changes in CONTROLS.items() if "noise_patches" in changes]
RANDOM_LABELS = [name for name, changes in CONTROLS.items() if "random_labels" in changes]
MEMBERS = config.get("members", {})  # networks to choose from, by group; each changes parameters of 02_train_network
TRAINED = NETWORKS | CONTROLS | {name: changes for group in MEMBERS.values() for name, changes in group.items()}
if len(TRAINED) < len(NETWORKS) + len(CONTROLS) + sum(map(len, MEMBERS.values())):
    sys.exit("Two networks of the configuration have the same name: give each name once.")
BEYOND = config.get("beyond_the_paper", False) and not OWN_CT  # whether 15 and 16 belong to what is made
NETWORK = config.get("network", f"{RUN}/networks/{TOP}")
PREDICTIONS = f"{RUN}/predictions.parquet" if OWN_CT else f"{NETWORK}/predictions.parquet"
SELECTION = [  # the tables of 03_select_network
    *("networks.csv", "network_metrics.csv", "network_ranking.csv", "network_tests.csv"),
    *("reference_networks.csv", "reference_weights.csv"),
]
# The comparison of networks that 17 may take from another run, as far as it is there.
SELECTED = f"{config['parameters'].get('17_compare_with_paper', {}).get('selection', '')}/tables"
SELECTED = [f"{SELECTED}/{table}" for table in SELECTION if os.path.exists(f"{SELECTED}/{table}")]
PATHS = {
    "cohort": f"{RUN}/cohort",
    "private": f"{RUN}/private",
    "dicom_folder": DICOM,
    "network": NETWORK,
    "predictions": PREDICTIONS,
    "masking": f"{RUN}/masking/{TOP}",
    "noise_network_masking": f"{RUN}/masking/{NOISE[0]}" if NOISE else "",
    "random_label_network": f"{RUN}/networks/{RANDOM_LABELS[0]}" if RANDOM_LABELS else "",
    **{name: f"{RUN}/{name}" for name in ("votes", "maps", "figures", "tables")},
    "run": RUN,
}
HALF = max(1, workflow.cores // 2)  # two notebooks at a time: masking leaves a core idle
EXECUTE = "python -m lib.run_notebook {input.notebook} {log} --parameters {params.parameters:q}"


def code(name):
    """The notebook and the modules of lib that it uses."""
    notebook = f"notebooks/{name}.py"
    return {"notebook": notebook, "modules": [str(module) for module in modules_used(notebook)]}


def parameters(name, *paths, **changes):
    """What the notebook is run with: where its files are, the profile's own parameters, and what else is changed."""
    chosen = {path: PATHS[path] for path in paths}
    return json.dumps(chosen | config["parameters"].get(name, {}) | changes, sort_keys=True)


def executed(name, network=TOP):
    """Where the executed notebook goes; those that know the source's paths are private if the source is."""
    private = "private/" if PRIVATE and name in ("01_prepare_cohort", "18_export_maps_to_dicom") else ""
    which = "" if network == TOP else f"_{network}"
    return f"{RUN}/{private}notebooks/{name}{which}.ipynb"


def times(name, network=TOP):
    """Where Snakemake notes the seconds and the memory that the last run of the notebook took."""
    return f"{RUN}/times/{name}{'' if network == TOP else f'_{network}'}.tsv"


def rule_name(name, network=TOP):
    """The notebook's name without its number; of further networks with theirs."""
    return name[3:] if network == TOP else f"{name[3:]}_{network}"


onsuccess:
    print(f"Done: {RUN}/figures, {RUN}/tables, {RUN}/{'votes/series.csv' if OWN_CT else 'claims.csv'}")


rule all:
    """Every figure, table and claim of the profile."""
    input:
        f"{RUN}/votes/volumes.parquet",
        expand(f"{RUN}/figures/{{figure}}.png", figure=["fig1", "fig3", "fig4"]),
        [f"{RUN}/masking/{network}/done.json" for network in NETWORKS],
        [] if OWN_CT else f"{RUN}/claims.csv",
        f"{RUN}/figures/s2.png" if MEMBERS else [],
        f"{RUN}/tables/organ_baseline.csv" if not PRIVATE else [],
        [f"{RUN}/figures/{figure}.png" for figure in ("sanity_checks", "deletion_curves") if BEYOND],
        f"{RUN}/figures/retraining.png" if "97_remove_and_retrain" in config["parameters"] and not OWN_CT else [],


if PARTS > 1:

    rule prepare_part:
        """Store a part of the series; a command, not a notebook: 01_prepare_cohort shows what all parts have made."""
        input:
            modules=[str(module) for module in modules_used("lib/prepare_part.py")],
        output:
            touch(f"{RUN}/parts/{{part}}-of-{PARTS}"),
        params:
            parameters=parameters("01_prepare_cohort", "dicom_folder", "cohort", "private"),
        threads: 2
        log:
            f"{RUN}/private/notebooks/prepare_part_{{part}}.log",
        shell:
            "python -m lib.prepare_part {wildcards.part} {PARTS} --parameters {params.parameters:q} > {log} 2>&1"

    rule gather_parts:
        """Make one store of the parts'."""
        input:
            expand(f"{RUN}/parts/{{part}}-of-{PARTS}", part=range(PARTS)),
        output:
            touch(f"{RUN}/parts/gathered"),
        params:
            parameters=parameters("01_prepare_cohort", "cohort"),
        shell:
            "python -m lib.prepare_part gather {PARTS} --parameters {params.parameters:q}"


rule prepare_cohort:
    """Write the phantom as DICOM where it is wanted, and turn any DICOM into slices through the kidneys."""
    input:
        f"{RUN}/parts/gathered" if PARTS > 1 else [],
        **code("01_prepare_cohort"),
    output:
        f"{RUN}/cohort/slices.parquet",
    params:
        parameters=parameters("01_prepare_cohort", "dicom_folder", "cohort", "private"),
    threads: 16
    log:
        executed("01_prepare_cohort"),
    benchmark:
        times("01_prepare_cohort")
    shell:
        EXECUTE


if not OWN_CT:
    for network, changes in TRAINED.items():

        rule:
            """Train a network on the cohort and predict its validation and test slices."""
            name:
                rule_name("02_train_network", network)
            input:
                rules.prepare_cohort.output,
                f"{changes['start_from']}/model.keras" if "start_from" in changes else [],
                **code("02_train_network"),
            output:
                f"{RUN}/networks/{network}/model.keras",
                f"{RUN}/networks/{network}/predictions.parquet",
                f"{RUN}/networks/{network}/history.csv",
            params:
                parameters=parameters(
                    "02_train_network", "cohort", network=f"{RUN}/networks/{network}", **changes
                ),
            threads: 16
            resources:
                gpu=1,
            log:
                executed("02_train_network", network),
            benchmark:
                times("02_train_network", network)
            shell:
                EXECUTE


if MEMBERS:

    rule select_network:
        """Compare the networks, choose among them by the validation split, and draw Figures S1 to S3, S5 and S6."""
        input:
            rules.prepare_cohort.output,
            [
                f"{RUN}/networks/{network}/{file}"
                for network in {TOP, *(name for group in MEMBERS.values() for name in group)}
                for file in ("model.keras", "predictions.parquet", "history.csv")
            ],
            **code("03_select_network"),
        output:
            [f"{RUN}/tables/{table}" for table in SELECTION],
            [f"{RUN}/figures/{figure}.png" for figure in ("s1", "s2", "s3", "s5", "s6", "grad_cam_networks")],
        params:
            parameters=parameters(
                "03_select_network",
                *("cohort", "figures", "tables"),
                networks=f"{RUN}/networks",
                top=TOP,
                grid=" ".join([TOP, *MEMBERS.get("grid", {})]),
                three_slices=" ".join(MEMBERS.get("three_slices", {})),
                references=" ".join(MEMBERS.get("references", {})),
            ),
        threads: 16
        log:
            executed("03_select_network"),
        benchmark:
            times("03_select_network")
        shell:
            EXECUTE


rule vote_slices:
    """Let the slices of a series vote: Tables 1 and 2, the voting rules, Figure S4."""
    input:
        rules.prepare_cohort.output,
        f"{NETWORK}/model.keras",
        [] if OWN_CT else PREDICTIONS,
        **code("04_vote_slices"),
    output:
        f"{RUN}/votes/volumes.parquet",
        PREDICTIONS if OWN_CT else f"{RUN}/tables/table2.csv",
        [] if OWN_CT else [f"{RUN}/figures/s4.png", f"{RUN}/figures/voting_curve.png"],
    params:
        parameters=parameters("04_vote_slices", "cohort", "network", "predictions", "votes", "tables", "figures"),
    log:
        executed("04_vote_slices"),
    benchmark:
        times("04_vote_slices")
    shell:
        EXECUTE


rule compute_maps:
    """Compute every map of one representative slice per phase (or series), for Figures 1, 3, 4 and S7."""
    input:
        rules.prepare_cohort.output,
        f"{NETWORK}/model.keras",
        PREDICTIONS,
        **code("05_compute_maps"),
    output:
        f"{RUN}/maps/maps.npz",
        f"{RUN}/maps/slices.csv",
    params:
        parameters=parameters("05_compute_maps", "cohort", "network", "predictions", "maps"),
    log:
        executed("05_compute_maps"),
    benchmark:
        times("05_compute_maps")
    shell:
        EXECUTE


for network in [*NETWORKS, *NOISE]:
    folder = NETWORK if network == TOP else f"{RUN}/networks/{network}"
    predictions = PREDICTIONS if network == TOP else f"{folder}/predictions.parquet"

    rule:
        """Overwrite what the maps of a network rank highest or lowest, and the controls, and predict again."""
        name:
            rule_name("06_mask_voxels", network)
        input:
            rules.prepare_cohort.output,
            f"{folder}/model.keras",
            predictions,
            **code("06_mask_voxels"),
        output:
            f"{RUN}/masking/{network}/done.json",
        params:
            parameters=parameters(
                "06_mask_voxels",
                "cohort",
                network=folder,
                predictions=predictions,
                masking=f"{RUN}/masking/{network}",
            ),
        threads: HALF
        resources:
            gpu=1,
        log:
            executed("06_mask_voxels", network),
        benchmark:
            times("06_mask_voxels", network)
        shell:
            EXECUTE


READ = list(NETWORKS)[: config.get("read_networks", 1)]  # networks that are masked by every reading of the paper
MAPS, MASKING = rules.compute_maps.output, f"{RUN}/masking/{TOP}/done.json"
FIGURES = {
    "07_fig1_final_layer_maps": (["maps"], MAPS, ["figures/fig1.png", "figures/s7.png"]),
    "08_fig2_masking_specificity": (
        ["masking", "noise_network_masking"],
        [MASKING, *(f"{RUN}/masking/{network}/done.json" for network in NOISE)],
        ["figures/fig2.png", "figures/maps_less_controls.png", "figures/where_masked_go.png", "tables/fig2.csv"],
    ),
    "09_fig3_grad_cam_layers": (["maps"], MAPS, ["figures/fig3.png", "figures/fig3_ranks.png"]),
    "10_fig4_sam_layers": (["maps"], MAPS, ["figures/fig4.png"]),
    "11_fig5_sam_against_grad_cam": (["masking"], MASKING, ["figures/fig5.png", "tables/fig5.csv"]),
    "12_fig6_sam_layer_specificity": (["masking"], MASKING, ["figures/fig6.png", "tables/fig6.csv"]),
}
for notebook, (sources, made_from, drawn) in FIGURES.items():

    rule:
        """Draw a figure of the paper from saved maps or masking tables."""
        name:
            rule_name(notebook)
        input:
            made_from,
            **code(notebook),
        output:
            [f"{RUN}/{file}" for file in drawn],
        params:
            parameters=parameters(notebook, *sources, "figures", "tables"),
        log:
            executed(notebook),
        benchmark:
            times(notebook)
        shell:
            EXECUTE


if PRIVATE:

    rule export_maps_to_dicom:
        """Write the maps as DICOM objects for a PACS into private/; only where it is asked for (make pacs)."""
        input:
            MAPS,
            **code("18_export_maps_to_dicom"),
        output:
            f"{RUN}/private/dicom_maps/written.csv",
        params:
            parameters=parameters("18_export_maps_to_dicom", "maps", "private"),
        log:
            executed("18_export_maps_to_dicom"),
        benchmark:
            times("18_export_maps_to_dicom")
        shell:
            EXECUTE


if not PRIVATE:

    rule anatomy_of_maps:
        """Count on which tissues the maps lie, which the phantom knows."""
        input:
            rules.prepare_cohort.output,
            f"{NETWORK}/model.keras",
            PREDICTIONS,
            MASKING,
            **code("13_anatomy_of_maps"),
        output:
            [f"{RUN}/tables/anatomy{table}.csv" for table in ("", "_tissues", "_contrasts", "_sign", "_focus")],
            f"{RUN}/figures/anatomy.png",
            f"{RUN}/figures/anatomy_sign.png",
        params:
            parameters=parameters(
                "13_anatomy_of_maps", "cohort", "network", "predictions", "masking", "figures", "tables"
            ),
        log:
            executed("13_anatomy_of_maps"),
        benchmark:
            times("13_anatomy_of_maps")
        shell:
            EXECUTE

    rule measure_organs:
        """Predict the phase from the attenuation of known organs alone: a baseline for the network."""
        input:
            rules.prepare_cohort.output,
            PREDICTIONS,
            **code("19_measure_organs"),
        output:
            f"{RUN}/tables/organ_baseline.csv",
            f"{RUN}/figures/organ_baseline.png",
        params:
            parameters=parameters("19_measure_organs", "cohort", "predictions", "figures", "tables"),
        log:
            executed("19_measure_organs"),
        benchmark:
            times("19_measure_organs")
        shell:
            EXECUTE


if not OWN_CT:

    rule sensitivity:
        """Repeat the masking experiment by every reading of the paper, in several networks, and judge each."""
        input:
            rules.prepare_cohort.output,
            [f"{RUN}/networks/{network}/{file}" for network in READ for file in ("model.keras", "predictions.parquet")],
            **code("14_sensitivity"),
        output:
            [f"{RUN}/tables/sensitivity{table}.csv" for table in ("", "_claims", "_networks", "_fills")],
            f"{RUN}/figures/sensitivity.png",
            f"{RUN}/figures/sensitivity_fills.png",
        params:
            parameters=parameters(
                "14_sensitivity",
                "cohort",
                "figures",
                "tables",
                networks=f"{RUN}/networks",
                names=" ".join(READ),
                readings=f"{RUN}/readings",
            ),
        threads: 16
        resources:
            gpu=1,
        log:
            executed("14_sensitivity"),
        benchmark:
            times("14_sensitivity")
        shell:
            EXECUTE

    rule sanity_checks:
        """Make the weights of the network random, layer by layer, and see which maps change; compare its siblings."""
        input:
            rules.prepare_cohort.output,
            f"{NETWORK}/model.keras",
            PREDICTIONS,
            [f"{RUN}/networks/{network}/model.keras" for network in [*NETWORKS, *RANDOM_LABELS]],
            **code("15_sanity_checks"),
        output:
            f"{RUN}/tables/sanity_checks.csv",
            f"{RUN}/tables/sanity_verdicts.csv",
            f"{RUN}/figures/sanity_checks.png",
        params:
            parameters=parameters(
                "15_sanity_checks",
                *("cohort", "network", "random_label_network", "predictions", "figures", "tables"),
                networks=f"{RUN}/networks",
            ),
        log:
            executed("15_sanity_checks"),
        benchmark:
            times("15_sanity_checks")
        shell:
            EXECUTE

    rule deletion_curves:
        """Overwrite from none to all of the voxels in the order of each map, and predict again."""
        input:
            rules.prepare_cohort.output,
            f"{NETWORK}/model.keras",
            PREDICTIONS,
            **code("16_deletion_curves"),
        output:
            f"{RUN}/tables/deletion_curves.csv",
            f"{RUN}/tables/deletion_areas.csv",
            f"{RUN}/figures/deletion_curves.png",
            f"{RUN}/figures/deletion_areas.png",
        params:
            parameters=parameters("16_deletion_curves", "cohort", "network", "predictions", "figures", "tables"),
        log:
            executed("16_deletion_curves"),
        benchmark:
            times("16_deletion_curves")
        shell:
            EXECUTE

    rule remove_and_retrain:
        """Train new networks on slices that lack what a map ranks highest; the notebook itself goes on where it was."""
        input:
            rules.prepare_cohort.output,
            **code("97_remove_and_retrain"),
        output:
            f"{RUN}/tables/retraining.csv",
            f"{RUN}/figures/retraining.png",
        params:
            parameters=parameters(
                "97_remove_and_retrain", *("cohort", "figures", "tables"), retrained=f"{RUN}/retrained"
            ),
        threads: HALF
        resources:
            gpu=1,
        log:
            executed("97_remove_and_retrain"),
        benchmark:
            times("97_remove_and_retrain")
        shell:
            EXECUTE

    rule compare_with_paper:
        """Put every claim of the paper beside what was measured, with a verdict."""
        input:
            [f"{RUN}/{file}" for _, _, drawn in FIGURES.values() for file in drawn],
            [f"{RUN}/masking/{network}/done.json" for network in NETWORKS],
            PREDICTIONS,
            rules.vote_slices.output,
            rules.anatomy_of_maps.output if not PRIVATE else [],
            rules.select_network.output if MEMBERS else SELECTED,
            rules.sensitivity.output if "read_networks" in config else [],
            **code("17_compare_with_paper"),
        output:
            f"{RUN}/claims.csv",
        params:
            parameters=parameters("17_compare_with_paper", "run", network=TOP),
        log:
            executed("17_compare_with_paper"),
        benchmark:
            times("17_compare_with_paper")
        shell:
            EXECUTE


if not PRIVATE:
    OTHERS = [network for network in NETWORKS if network != TOP][: config.get("atlas_networks", 0)]

    rule method_atlas:
        """Compute every method of interpretation on one network, and hold each against interventions."""
        input:
            rules.prepare_cohort.output,
            f"{NETWORK}/model.keras",
            PREDICTIONS,
            [f"{RUN}/networks/{network}/model.keras" for network in OTHERS],
            **code("20_method_atlas"),
        output:
            f"{RUN}/tables/atlas_claims.csv",
            f"{RUN}/tables/atlas_verdicts.csv",
        params:
            parameters=parameters(
                "20_method_atlas",
                *("cohort", "dicom_folder", "network", "tables", "figures"),
                more_networks=", ".join(f"{RUN}/networks/{network}" for network in OTHERS),
            ),
        threads: HALF
        resources:
            gpu=1,
        log:
            executed("20_method_atlas"),
        benchmark:
            times("20_method_atlas")
        shell:
            EXECUTE

    RADIOGRAPHS = {"21_grad_cam_architectures": ("chests", "architectures"), "22_grad_cam_dental_layers": ("dental",) * 2}
    for notebook, (cache, name) in RADIOGRAPHS.items():

        rule:
            """Reproduce a related text on simulated radiographs."""
            name:
                rule_name(notebook)
            input:
                **code(notebook),
            output:
                f"{RUN}/tables/{name}_claims.csv",
                f"{RUN}/tables/{name}_verdicts.csv",
            params:
                parameters=parameters(notebook, "tables", "figures", cache=f"{RUN}/{cache}"),
            threads: HALF
            resources:
                gpu=1,
            log:
                executed(notebook),
            benchmark:
                times(notebook)
            shell:
                EXECUTE

    rule four_studies:
        """Put the claims of the paper and of the related texts on one page."""
        input:
            [f"{RUN}/tables/{name}_verdicts.csv" for name in ("atlas", "architectures", "dental")],
            **code("23_compare_four_studies"),
        output:
            f"{RUN}/tables/four_studies.csv",
        params:
            parameters=parameters("23_compare_four_studies", folder=RUN),
        log:
            executed("23_compare_four_studies"),
        benchmark:
            times("23_compare_four_studies")
        shell:
            EXECUTE

    rule texts:
        """The related texts; the study does not need them."""
        input:
            rules.four_studies.output,
