"""Attribution maps of a Keras classifier: every map of every layer from one forward and two backward passes.

Notation: x the image, A_k the activation of kernel k in a layer (its cells H' x W', or as many axes as the image has),
y_c the score of class c, G_k = dy_c / dA_k, B a Gaussian blur of each kernel. With `gradients.py` and
`network_steps.py` this file can be lifted out: the three need Keras and NumPy only, and work in a package or side by
side in a folder.

>>> import keras, numpy as np
>>> inputs = keras.Input((8, 8, 1))
>>> x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
>>> x = keras.layers.GlobalAveragePooling2D()(x)
>>> model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
>>> images = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
>>> maps = Attributor(model)(images)  # of the predicted class
>>> maps["saliency", "input"].shape, maps["sam", "conv"].shape
((2, 8, 8), (2, 6, 6))
"""

import difflib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

if __package__:
    from . import gradients as passes
    from . import network_steps as network
    from .network_steps import INPUT, Place, Step
else:  # the three files lie side by side in a folder
    import gradients as passes
    import network_steps as network
    from network_steps import INPUT, Place, Step

INPUT_METHODS = ("saliency", "guided_backprop")
LAYER_METHODS = ("grad_cam", "sam", "hires_cam", "layer_cam")
METHODS = (*INPUT_METHODS, "cam", *LAYER_METHODS)
KNOWN = {"score": ("logit", "probability", "log_odds"), "maximum": ("kernel", "layer"), "gradient": ("element", "mean")}
SETTINGS = ("model", "score", "blur_sigma", "maximum", "inversion", "gradient", "memory", "output", "target", "tokens")
PREDICTED = -1  # stands for the class that the network predicts


class Scores(NamedTuple):
    """What the maps of a batch explain.

    `classes` (n,): the class explained, int32. `explained` (n,): its score y_c, float32 (for the score "probability"
    the log odds that it is differentiated through). `outputs`: what the model predicts, as `model.predict` gives it,
    (n, classes); None where a target of one's own is explained.
    """

    classes: np.ndarray
    explained: np.ndarray
    outputs: np.ndarray | None


class Attributor:
    """Every attribution map of a classifier, compiled once for each set of methods.

    Parameters
    ----------
    model : keras.Model
        A network of one image (or signal, or volume) that gives class scores: Functional, Sequential or subclassed,
        models nested at will. It runs in inference mode and in float32, and is left unchanged; weights that are trained
        or loaded later are seen, and where its layers change it is read anew. Its class scores are what enters its last
        softmax or sigmoid; without one, its output is taken for logits (of a softmax, or of a sigmoid where it is one
        number), unless its values turn out to be probabilities.
    layers : sequence of str, optional
        Names, or paths ("resnet50/conv4_block6_out") where a name is not unique. None: the last activation before each
        pooling, and the last of all.
    score : {"logit", "probability", "log_odds"}
        y_c: the logit z_c; the probability p_c; or log p_c / (1 - p_c) = z_c - log sum_{j != c} exp z_j.
    blur_sigma : float or None
        Standard deviation of B in layer cells; None leaves G as it is.
    maximum : {"kernel", "layer"}
        What SAM inverts an activation against: the maximum of its kernel or of the whole layer.
    inversion : bool
        Whether SAM inverts activations where the gradient is negative at all.
    gradient : {"element", "mean"}
        Whether SAM weights element by element or by each kernel's mean gradient, as Grad-CAM does.
    memory : int
        Bytes that a batch may take (estimated by `bytes_of_an_image`); larger ones are split.
    output : int or str, optional
        Which of several outputs holds the classes.
    target : callable, optional
        A score of one's own, in place of a class's: `target(outputs, classes) -> (n,)`, written with keras.ops. The
        outputs come as the model nests them, before their last softmax or sigmoid where `score` is "logit" and after it
        where it is "probability"; classes (n,) as they were given to the call, -1 where none were.
    tokens : (int, int, int), optional
        For layers of tokens (n, T, K): how many tokens stand before those of the patches, and the rows and columns of
        these. Found in the graph where the tokens are a reshaped grid.

    Attributes
    ----------
    methods, layers : tuple of str
        The methods that this network allows, and the layers of the layer maps.
    head : {"softmax", "sigmoid", "linear", "probabilities", "target"}
        The last activation, which the class scores enter; "probabilities" where the output holds probabilities and
        no such activation was found.
    traces : int
        How often the passes were traced so far (on torch: run).

    Raises
    ------
    TypeError, ValueError
        If the model, a layer or a choice does not fit; the message says what was found and what to do.

    Notes
    -----
    The network is replayed step by step, and nothing is believed of it: at each compilation what the replay gives for
    the first image is compared with `model(x, training=False)`, and the identity CAM / cells = HiResCAM is tried where
    CAM is asked for. A difference raises `RuntimeError` and names the layer where the two part.

    p_c = s(m) with m the log odds and s the logistic function, so
    dp_c/dx = s(m) s(-m) dm/dx. The passes differentiate m, and the factor comes last: where the softmax saturates
    nothing is lost before it. "probability" and "log_odds" rank voxels alike.

    Examples
    --------
    A linear network's saliency is its weights:

    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> attributor = Attributor(model)
    >>> maps = attributor(np.zeros((1, 2, 2, 1)), classes=2)
    >>> bool(np.allclose(maps["saliency", "input"].ravel(), model.get_weights()[0][:, 2]))
    True

    A target of one's own, here the difference of two classes:

    >>> difference = Attributor(model, target=lambda outputs, classes: outputs[:, 0] - outputs[:, 1])
    >>> difference(np.zeros((1, 2, 2, 1)))["saliency", "input"].shape
    (1, 2, 2)
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[str] | None = None,
        *,
        score: str = "logit",
        blur_sigma: float | None = 0.75,
        maximum: str = "kernel",
        inversion: bool = True,
        gradient: str = "element",
        memory: int = 2**30,
        output: int | str | None = None,
        target: Callable | None = None,
        tokens: tuple[int, int, int] | None = None,
    ):
        for name, value in {"score": score, "maximum": maximum, "gradient": gradient}.items():
            if value not in KNOWN[name]:
                raise ValueError(f"{name}={value!r} is not known: choose one of {', '.join(KNOWN[name])}.")
        if blur_sigma is not None and not blur_sigma > 0:
            raise ValueError(f"blur_sigma is {blur_sigma}, expected a positive number of pixels, or None for no blur.")
        if not isinstance(model, keras.Model):
            raise TypeError(f"model is a {type(model).__name__}, expected a keras.Model.")
        if target is not None and (score == "log_odds" or output is not None):
            raise ValueError("A target of your own takes the place of output and of score='log_odds': leave these out.")
        layers = (layers,) if isinstance(layers, str) else layers if layers is None else tuple(layers)
        self.model, self.score, self.blur_sigma, self.maximum, self.inversion = (
            model,
            score,
            blur_sigma,
            maximum,
            inversion,
        )
        self.gradient, self.memory, self.output, self.target, self.tokens = gradient, memory, output, target, tokens
        self._asked, self.traces = layers, 0
        self._read()

    def __setattr__(self, name: str, value) -> None:
        if name in SETTINGS and name in self.__dict__:
            raise AttributeError(
                f"{name} is fixed once an Attributor is built: build another one with {name}={value!r}."
            )
        super().__setattr__(name, value)

    def __reduce__(self):
        settings = {name: getattr(self, name) for name in SETTINGS if name != "model"}
        return partial(Attributor, **settings), (self.model, self._asked)

    def __call__(
        self,
        images: np.ndarray,
        classes=None,
        methods: Iterable[str] | None = None,
        *,
        negative=False,
        return_scores: bool = False,
    ) -> dict[tuple[str, str], np.ndarray] | tuple[dict[tuple[str, str], np.ndarray], Scores]:
        """Return the maps of a batch of images.

        Parameters
        ----------
        images : array, (n, H, W, C), or (n, length, C), or (n, D, H, W, C)
        classes : int or array of int, (n,), optional
            The class whose score is explained, for each image or for all; None: the one that is predicted. An output of
            one number has the classes 1 (its logit) and 0 (the logit's negative).
        methods : iterable of str, optional
            None for all in `.methods`.
        negative : bool or array of bool, (n,)
            Under a sigmoid: whether to explain that a label is absent, y_c = -z_c.
        return_scores : bool
            Whether to return `Scores` as well.

        Returns
        -------
        dict of (method, layer) to float32 array
            Raw values at the map's own resolution: (n, H', W'); at the input of several channels (n, H, W, C). The
            layer of "saliency" and "guided_backprop" is "input", that of "cam" is the pooled one.
        Scores
            If `return_scores`.

        Raises
        ------
        ValueError
            If shapes, classes or methods do not fit, an image holds NaN or infinity, or the class score does not depend
            on a layer.
        FloatingPointError
            If a class score or a map is not finite.
        RuntimeError
            If the replay of the network does not give what the model gives.
        """
        if not network.unchanged(self._seen, self.model):
            self._read()
        keys = self.keys(methods)
        wanted = tuple(sorted(set(keys), key=lambda key: (METHODS.index(key[0]), key[1])))
        images, classes, signs = self._checked(images, classes, negative)
        sizes = images.shape[1:] if passes.BACKEND == "jax" else self._steps[INPUT].shape[1:]
        new = (wanted, images.shape[1:]) not in self._verified
        expected = self._expect(images) if new else []
        if (wanted, sizes) not in self._compiled:
            signature = [((None, *sizes), images.dtype.name), ((None,), "int32"), ((None,), "float32")]
            self._compiled[wanted, sizes] = passes.compiled(
                lambda x, c, s: self._maps(x, c, s, wanted), self.model.variables, signature
            )
        pieces = math.ceil(len(images) / self._images_at_once(images))
        cut = [np.array_split(array, pieces) for array in (images, classes, signs)]
        parts = [self._compiled[wanted, sizes](*part) for part in zip(*cut, strict=True)]
        firsts = parts[0][: len(self._survey.outputs)]
        parts = [part[len(self._survey.outputs) :] for part in parts]
        explained, score, outputs, *maps = (
            np.concatenate(p) if len(parts) > 1 else p[0] for p in zip(*parts, strict=True)
        )
        self._check_finite(score, "class score")
        if new:
            self._verify(images, firsts, expected, "cam" in {method for method, _ in wanted})
            self._verified.add((wanted, images.shape[1:]))
        for key, value in zip(wanted, maps, strict=True):
            self._check_finite(value, f"{key[0]} map of {key[1]!r}")
        if self.score == "probability" and self._factored and np.abs(score).max() > 87:
            message = "A probability is so near 0 or 1 that its gradient underflows: score='log_odds' ranks alike."
            warnings.warn(message, stacklevel=2)
        found = dict(zip(wanted, maps, strict=True))
        found = {key: found[key] for key in keys}
        return (found, Scores(explained, score, None if self.target else outputs)) if return_scores else found

    def keys(self, methods: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """Return the keys (method, layer) of the maps that a call gives; a method that cannot be had raises.

        Examples
        --------
        >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        >>> Attributor(model).keys()
        [('saliency', 'input')]
        """
        methods = self.methods if methods is None else [methods] if isinstance(methods, str) else list(methods)
        for method in methods:
            if method not in self.methods:
                close = difflib.get_close_matches(str(method), self.methods, 1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                reason = self._missing.get(method, f"it is not known, choose among {', '.join(self.methods)}{hint}")
                raise ValueError(f"Method {method!r} cannot be had of {self.model.name!r}: {reason}.")
        places = dict.fromkeys(INPUT_METHODS, ("input",))
        places["cam"] = (self._short[self._pooled.step],) if self._pooled else ()
        return [(method, layer) for method in dict.fromkeys(methods) for layer in places.get(method, self.layers)]

    @property
    def head(self) -> str:
        """The last activation; where none was found, the values of a prediction decide about probabilities."""
        if self._kind is None:
            shape = [n or 32 for n in self._steps[INPUT].shape[1:]]
            images = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
            try:
                self._judge(passes.predict(self.model, self._survey, images)[0])
            except Exception:  # no logit, or no prediction of an image of this size: a call will tell
                return self._kind or "linear"
        return self._kind

    def bytes_of_an_image(self, shape: tuple[int, ...] | None = None) -> int:
        """Return an estimate of the bytes that one image more in a batch takes while its maps are made.

        Parameters
        ----------
        shape : tuple of int, optional
            (H, W, C) of the image, where the network leaves it open.

        Notes
        -----
        5 (sum of what the backward passes need again + 2.5 times the outputs of layers with maps + the largest output)
        bytes, the factors fitted to the peaks that TensorFlow took for five networks, from which they are 20 % off:
        of a convolution's output nothing is kept, of an activation's, a maximum pooling's or a product's all is.

        Examples
        --------
        >>> model = keras.Sequential([keras.Input((10, 10, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        >>> Attributor(model).bytes_of_an_image()
        500
        """
        entry = self._steps[INPUT].shape[1:]
        open_cells = math.prod(m for n, m in zip(entry, shape or entry, strict=True) if n is None and m)

        def values(step: Step) -> int:
            return math.prod(n or 1 for n in step.shape[1:]) * (open_cells if None in step.shape[1:] else 1)

        kept = {step for step in self._steps if _kept_for_later(step)}
        kept |= {parent for step in self._steps if network.named(step.operation, "Multiply") for parent in step.parents}
        tapped = sum(values(place.step) for place in self._taps.values())
        return int(5 * (sum(map(values, kept)) + 2.5 * tapped + max(map(values, self._steps))))

    # -------------------------------------------------------------------------------------------- reading the network

    def _read(self) -> None:
        """Take the network apart and find its head, its layers and what it allows."""
        self._compiled, self._verified, self._differentiated = {}, set(), False
        name = self.model.name
        quantised = [x.name for x in self.model._flatten_layers() if getattr(x, "quantization_mode", None)]
        if quantised:
            raise ValueError(
                f"Layer {quantised[0]!r} of model {name!r} is quantised: its rounding has no gradient. Explain "
                "the model as it was before quantize()."
            )
        self._seen, self._survey = network.snapshot(self.model), network.survey(self.model)
        self._steps = self._survey.steps
        self._which = self._choose_output()
        self._head = None if self.target else network.head_of(self._outputs()[self._which])
        self._heads = [network.head_or_none(step) for step in self._outputs()]
        self._kind = "target" if self.target else None if self._head.kind == "linear" else self._head.kind
        reached = network.reached_from(self._outputs() if self.target else [self._outputs()[self._which]])
        self._places = network.places_of(self._steps)
        last_names = Counter(step.name.rsplit("/")[-1] for step in self._steps)
        self._short = {s: min(s.name, s.name.rsplit("/")[-1], key=lambda n: last_names[n] != 1) for s in self._steps}
        asked = self._asked
        if asked is None:
            asked = [self._short[step] for step in network.default_layers(self._steps, self._places, reached)]
        self._taps = {layer: self._find(layer, reached) for layer in asked}
        self.layers = tuple(self._taps)
        if self._steps[INPUT] not in reached:
            cut = next(
                (
                    f" past {s.name!r}"
                    for s in self._steps
                    if s in reached and network.named(s.operation, network.NO_GRADIENT)
                ),
                "",
            )
            raise ValueError(f"The output of model {name!r} does not depend on its input: no gradient reaches it{cut}.")
        self._missing = self._why_not()
        self.methods = tuple(method for method in METHODS if method not in self._missing)

    def _outputs(self) -> list[Step]:
        return [step for step, _ in self._survey.outputs]

    def _choose_output(self) -> int | None:
        """Return the number of the output that holds the classes, None for a target of one's own."""
        structure, found = self._survey.structure, self._survey.outputs
        if self.target:
            return None
        names = list(structure) if isinstance(structure, dict) else list(getattr(self.model, "output_names", ()))
        names = sorted(names) if isinstance(structure, dict) else names
        if self.output is None and len(found) == 1:
            number = 0
        elif self.output in names:
            number = names.index(self.output)
        elif isinstance(self.output, int) and 0 <= self.output < len(found):
            number = self.output
        else:
            known = f"output=0 ... {len(found) - 1}" + (f" ({', '.join(names)})" if len(names) == len(found) else "")
            raise ValueError(
                f"Model {self.model.name!r} gives {len(found)} outputs, and output={self.output!r} names none: choose "
                f"{known}, or give a target of your own."
            )
        shape = self._shapes_of_outputs()[number]
        if len(shape) != 2:
            raise ValueError(
                f"Model {self.model.name!r} gives {shape}, expected one output of shape (n, classes): give a target of "
                "your own, such as the mean of a class over a region."
            )
        return number

    def _shapes_of_outputs(self) -> list[tuple]:
        return [tuple(tensor.shape) for tensor in keras.tree.flatten(self._survey.structure)]

    def _find(self, name: str, reached: set[Step]) -> Place:
        """Return the place of a layer that is named."""
        everything = {step.name: step for step in self._steps[1:]} | self._survey.places
        ending = {path: step for path, step in everything.items() if f"/{path}".endswith(f"/{name}")}
        found = {everything[name]} if name in everything else set(ending.values())
        (step,) = found if len(found) == 1 else (None,)
        rank, place = len(self._steps[INPUT].shape), self._places.get(step)
        if step is None:
            fault = f"may be {' or '.join(sorted(ending))}: give the path" if ending else "is not there"
        elif step not in reached:
            raise ValueError(
                f"The class score does not depend on {name!r}: no gradient reaches it. Choose another layer."
            )
        elif len(step.shape) == 3 != rank and (self.tokens or (place and place.tokens)):
            tokens = self.tokens or place.tokens
            if step.shape[1] is not None and tokens[0] + tokens[1] * tokens[2] <= step.shape[1]:
                return Place(step, 2, tuple(tokens))
            fault = f"has output {step.shape}, in which tokens={tokens} do not fit"
        elif len(step.shape) == 3 != rank and step.shape[1] not in (None, 1):
            fault = f"has output {step.shape}: of tokens say where the patches are, tokens=(before, rows, columns)"
        elif len(step.shape) == rank > 2:
            place = place or Place(step, network.channel_axis_of_input(self._steps), None, False)
            if not place.upright:
                message = (
                    f"Layer {name!r} comes after axes were turned or mixed: its maps lie as it does, not as the image."
                )
                warnings.warn(message, stacklevel=4)
            return place
        else:
            fault = f"has output {step.shape}, no map"
        if ending and step is None:
            raise ValueError(f"Layer {name!r} of model {self.model.name!r} {fault}.")
        known = [self._short[s] for s in self._steps[1:] if s in self._places and s in reached]
        close = difflib.get_close_matches(name, known, 3, 0.5)
        if close or len(known) <= 12:
            hint = f"Did you mean {', '.join(close)}?" if close else f"Layers with a map: {', '.join(known)}."
        else:
            hint = f"{len(known)} layers have a map, {known[0]} ... {known[-1]}; see model.summary()."
        raise ValueError(f"Layer {name!r} of model {self.model.name!r} {fault}. {hint}")

    def _why_not(self) -> dict[str, str]:
        """Return the methods that this network does not allow, each with the reason."""
        missing = {}
        faults = [f"{step.name!r} is {step.gate}" for step in self._steps if step.gate not in ("relu", "none")]
        if faults:
            more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
            missing["guided_backprop"] = (
                f"guided backprop is defined for plain ReLUs only, and {'; '.join(faults[:3])}{more}"
            )
        elif all(step.gate == "none" for step in self._steps):
            missing["guided_backprop"] = "no ReLU was found, so guided backprop would be plain saliency"
        self._pooled = self._pooled_place()
        if self._pooled is None:
            missing["cam"] = (
                "CAM needs a global average pooling and one dense layer after the last convolution, and nothing but a "
                "softmax or sigmoid after that, on cells that are not masked and lie as the image does"
            )
        if not self._taps:
            missing |= dict.fromkeys(LAYER_METHODS, "no layer with a spatial output was found or named")
        return missing

    def _pooled_place(self) -> Place | None:
        """Return where CAM lies, None where there is no such head."""
        pooled = self._head.pooled if self._head else None
        place = self._places.get(pooled)
        if place is None or not place.upright:
            return None
        lead, *patches = place.tokens or (0,)
        return None if lead or (patches and math.prod(patches) != pooled.shape[1]) else place

    # ------------------------------------------------------------------------------------------------------- one call

    def _checked(self, images, classes, negative) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, classes (PREDICTED where none are given) and signs, as the compiled passes take them."""
        try:
            images, predicted = np.asarray(images), classes is None
            classes = np.asarray(PREDICTED if predicted else classes)
        except (NotImplementedError, TypeError, RuntimeError, ValueError) as fault:
            words = str(fault).splitlines()[0]
            raise TypeError(
                f"images and classes must be arrays, outside of tf.function, jit and grad: {words}"
            ) from None
        shape = self._steps[INPUT].shape[1:]
        cells = images.shape[1:]
        fits = len(cells) == len(shape) and all(n in (None, m) for n, m in zip(shape, cells, strict=True))
        if not fits or not images.size:
            expected = ", ".join(map(str, shape))
            raise ValueError(f"images has shape {images.shape}, expected (n > 0, {expected}).")
        if images.dtype.kind in "cOSUmM":
            raise ValueError(f"images holds {images.dtype} values, expected real numbers.")
        images = np.ascontiguousarray(images, "float64" if self._dtype == "float64" else "float32")
        images = self._as_seen(images)
        if not np.isfinite(images.sum(dtype="float64")):
            first = np.isfinite(images).all(axis=tuple(range(1, images.ndim))).argmin()
            raise ValueError(f"images holds NaN or infinity, first in image {first}: replace them first.")
        n = len(images)
        if not np.issubdtype(classes.dtype, np.integer) or classes.shape not in ((), (n,)):
            raise ValueError(f"classes is {classes.dtype} {classes.shape}, expected an integer or {n} of them.")
        if not predicted and not self.target:
            limit = 2 if self._binary else self._shapes_of_outputs()[self._which][-1]
            if classes.min() < 0 or classes.max() >= limit:
                raise ValueError(f"classes holds {classes.min()}..{classes.max()}, expected 0..{limit - 1}.")
        negative = np.asarray(negative)
        if negative.dtype != bool or negative.shape not in ((), (n,)):
            raise ValueError(f"negative is {negative.dtype} {negative.shape}, expected a bool or {n} of them.")
        if negative.any() and not (self._kind == "sigmoid" or (self._binary and self._kind != "probabilities")):
            raise ValueError("negative=True is for labels under a sigmoid: under a softmax explain another class.")
        signs = np.where(negative, np.float32(-1), np.float32(1))
        return images, np.broadcast_to(classes, n).astype("int32"), np.broadcast_to(signs, n).astype("float32")

    def _as_seen(self, images: np.ndarray) -> np.ndarray:
        """Return images as the model sees them: rounded where its input is of half precision."""
        if self._dtype not in network.HALVES:
            return images
        return ops.convert_to_numpy(ops.cast(ops.cast(images, self._dtype), "float32"))

    @property
    def _dtype(self) -> str:
        inputs = getattr(self.model, "inputs", None)
        return str(inputs[0].dtype) if inputs else "float32"

    def _images_at_once(self, images: np.ndarray) -> int:
        """Return how many images fit in `memory`: see `bytes_of_an_image`."""
        return max(1, int(min(len(images), self.memory / self.bytes_of_an_image(images.shape[1:]))))

    def _check_finite(self, values: np.ndarray, what: str) -> None:
        if not np.isfinite(values.sum(dtype="float64")):
            bad = ~np.isfinite(values.reshape(len(values), -1).sum(axis=1, dtype="float64"))
            first = bad.argmax()
            value = values[first] if values.ndim == 1 else "not finite"
            raise FloatingPointError(f"The {what} of image {first} is {value}: look at the weights.")

    def _maps(self, images, classes, signs, keys: Sequence[tuple[str, str]]) -> list:
        """Return the first image's outputs, classes, scores, all outputs, and the maps of `keys`: what is compiled."""
        self.traces += 1
        methods = {method for method, _ in keys}
        places = {layer: self._taps[layer] for method, layer in keys if method in LAYER_METHODS}
        wanted = {place.step.number for place in places.values()}
        tapped = wanted | ({self._pooled.step.number} if "cam" in methods else set())
        bare = self._bare()

        def forward(images, relu, tap):
            outputs = passes.replay(
                self._survey, images, relu, lambda s, t: tap(s.number, t) if s.number in tapped else t, bare
            )
            score, chosen = self._score(outputs, classes, signs)
            for number, value in enumerate((chosen, *outputs), 1):
                tap(-number, value)
            return score

        wrt = ((INPUT,) if "saliency" in methods else ()) + tuple(sorted(wanted))
        score, taps, plain, guided = passes.gradients(forward, images, wrt, "guided_backprop" in methods)
        chosen, *outputs = (taps[-number] for number in range(1, 2 + len(self._survey.outputs)))
        outputs = [self._as_predicted(number, output, bare) for number, output in enumerate(outputs)]
        factor = None
        if self.score == "probability" and self._factored:
            factor = ops.sigmoid(score) * ops.sigmoid(-score)
        spread = {n: (_spread(taps[n], p), _spread(plain[n], p)) for p in places.values() for n in (p.step.number,)}
        maps = []
        for method, layer in keys:
            if method == "cam":
                maps.append(self._cam(_spread(taps[self._pooled.step.number], self._pooled), chosen, signs))
                continue
            if method in INPUT_METHODS:
                value = ops.cast(plain[INPUT] if method == "saliency" else guided, "float32")
                value = self._at_input(value)
            else:
                value = self._layer_map(method)(*spread[places[layer].step.number])
            if factor is not None:
                value = value * ops.reshape(factor, (-1, *[1] * (len(value.shape) - 1)))
            maps.append(value)
        firsts = [output[:1] for output in outputs]
        return [*firsts, chosen, score, firsts[0] if self.target else outputs[self._which], *maps]

    def _bare(self) -> tuple[Step, ...]:
        """Return the steps whose last activation is left out."""
        heads = [self._head] if self._head else self._heads
        keeps = self._kind == "target" and self.score == "probability"
        return () if keeps else tuple(step for head in heads if head for step in head.steps)

    def _score(self, outputs: list, classes, signs):
        """Return y_c, (n,), and the class c."""
        if self.target:
            score = self.target(keras.tree.pack_sequence_as(self._survey.structure, outputs), classes)
            if len(score.shape) != 1:
                raise ValueError(f"The target gives shape {tuple(score.shape)}, expected (n,), one score an image.")
            return ops.cast(score, "float32"), classes
        values = ops.cast(outputs[self._which], "float32")
        if self._binary:
            positive = values[:, 0] > (0.5 if self._kind == "probabilities" else 0)
            classes = ops.where(classes < 0, ops.cast(positive, "int32"), classes)
            signs = signs * ops.cast(2 * classes - 1, "float32")
            chosen = values[:, 0]
        else:
            classes = ops.where(classes < 0, ops.cast(ops.argmax(values, axis=-1), "int32"), classes)
            chosen = ops.take_along_axis(values, classes[:, None], axis=1)[:, 0]
        if self._kind == "probabilities":
            chosen = ops.where(signs < 0, 1 - chosen, chosen)
            return (ops.log(chosen) - ops.log1p(-chosen) if self.score == "log_odds" else chosen), classes
        chosen = chosen * signs
        if self.score == "logit" or self._kind == "sigmoid" or self._binary:
            return chosen, classes
        others = ops.where(ops.one_hot(classes, values.shape[-1], dtype="bool"), -1e30, values)
        return chosen - ops.logsumexp(others, axis=1), classes

    @property
    def _binary(self) -> bool:
        return not self.target and self._shapes_of_outputs()[self._which][-1] == 1

    @property
    def _factored(self) -> bool:
        """Whether dp/dx is had from the log odds: everywhere but where p itself is what the network gives."""
        return self._kind not in ("probabilities", "target")

    def _as_predicted(self, number: int, output, bare: tuple[Step, ...]):
        """Return an output as the model gives it: with the activation that was left out."""
        head = self._heads[number]
        if head is None or not set(head.steps) & set(bare):
            return output
        return ops.softmax(output, axis=-1) if head.kind == "softmax" else ops.sigmoid(output)

    def _layer_map(self, method: str) -> Callable:
        if method == "sam":
            return lambda a, g: _sam(a, g, self.blur_sigma, self.maximum, self.inversion, self.gradient)
        return {"grad_cam": _grad_cam, "hires_cam": _hires_cam, "layer_cam": _layer_cam}[method]

    def _at_input(self, value):
        """Return a gradient of the image with its channels last, or without them where there is one."""
        axis = self._places[self._steps[INPUT]].channel_axis if self._steps[INPUT] in self._places else -1
        value = value if axis in (-1, len(value.shape) - 1) else ops.moveaxis(value, axis, -1)
        return value[..., 0] if value.shape[-1] == 1 else value

    def _cam(self, activation, classes, signs):
        kernel = ops.cast(ops.convert_to_tensor(self._head.dense.operation.kernel), "float32")
        if self._binary:
            weights = kernel[:, 0][None] * (signs * ops.cast(2 * classes - 1, "float32"))[:, None]
        else:
            weights = ops.transpose(ops.take(kernel, classes, axis=1)) * signs[:, None]
        return _weighted_sum(activation, weights)

    # --------------------------------------------------------------------------------------- the engine checks itself

    def _expect(self, images: np.ndarray) -> list[np.ndarray]:
        """Return what the model itself gives for the first image, and see that it gives that every time."""
        pair = _pair(images)
        outputs, written = passes.predict(self.model, self._survey, pair)
        expected = [value[:1] for value in outputs]
        if written:
            self._refuse_statistics(images, expected)
            raise RuntimeError(
                f"Model {self.model.name!r} writes to {written} of its variables in inference mode: it draws random "
                "numbers or keeps statistics, so that no two answers are the same."
            )
        own = [name for name in ("predict", "predict_step") if not network.is_keras_own(self.model, name)]
        for name in own:
            predicted = keras.tree.flatten(self.model.predict(pair, verbose=0))
            if not all(passes.agree(a, b, 1e-2) for a, b in zip(predicted, outputs, strict=True)):
                raise RuntimeError(
                    f"Model {self.model.name!r} has a {name} of its own, which gives something else than a call of the "
                    "model, which is what maps explain: make a model whose call does the same."
                )
        self._judge(outputs)
        return expected

    def _judge(self, predicted: list[np.ndarray]) -> None:
        """Tell logits from probabilities by the values of the output."""
        if self._kind is None:
            values = predicted[self._which]
            within = bool(((values >= -1e-6) & (values <= 1 + 1e-6)).all())
            unity = values.shape[1] > 1 and np.allclose(values.sum(axis=1), 1, atol=1e-3)
            by_hand = within and not network.is_linear(self._outputs()[self._which])
            self._kind = "probabilities" if within and (unity or by_hand) else "linear"
        if self._kind == "probabilities" and self.score == "logit":
            raise ValueError(
                f"The output of model {self.model.name!r} are probabilities, and no softmax or sigmoid was found that "
                "they come from: there is no logit. Take score='probability' or 'log_odds', or a target of your own."
            )

    def _refuse_statistics(self, images: np.ndarray, expected: list[np.ndarray]) -> None:
        alone, _ = passes.predict(self.model, self._survey, images[:1])
        again, _ = passes.predict(self.model, self._survey, images[:1])
        if not all(map(_alike, again, alone)):
            raise RuntimeError(
                f"Model {self.model.name!r} gives two answers to the same image in inference mode: it draws "
                "random numbers."
            )
        if not all(map(_alike, alone, expected)):
            raise RuntimeError(
                f"Model {self.model.name!r} gives an image another answer when others are in its batch: is "
                "training=True or a statistic of the batch fixed in it?"
            )

    def _verify(self, images: np.ndarray, firsts: list[np.ndarray], expected: list[np.ndarray], cam: bool) -> None:
        """Compare what the compiled replay gave for the first image with what the model gives."""
        if not all(map(_alike, firsts, expected)):
            self._refuse_statistics(images, expected)
            self._refuse_replay(_pair(images))
        if cam:
            self._verify_cam(images[:1])
        if not self._differentiated:
            self._verify_gradient(images[:1])
            self._differentiated = True

    def _refuse_replay(self, images: np.ndarray) -> None:
        where = passes.first_difference(self.model, self._survey, images)
        raise RuntimeError(
            f"The replay of model {self.model.name!r} does not give what the model gives ({where}): its maps would be "
            "wrong."
        )

    def _verify_cam(self, image: np.ndarray) -> None:
        """Try CAM / cells = HiResCAM at the pooled layer, for a random mixture of the class logits."""
        kernel = ops.convert_to_numpy(self._head.dense.operation.kernel).astype("float32")
        mixture = np.random.default_rng(0).normal(size=(kernel.shape[1], 1)).astype("float32")
        place, number = self._pooled, self._pooled.step.number

        def both(x):
            def forward(x, relu, tap):
                outputs = passes.replay(
                    self._survey, x, relu, lambda s, t: tap(number, t) if s is place.step else t, self._head.steps
                )
                return ops.matmul(ops.cast(outputs[self._which], "float32"), ops.convert_to_tensor(mixture))[:, 0]

            _, taps, plain, _ = passes.gradients(forward, x, (number,), False)
            activation = _spread(taps[number], place)
            weights = ops.convert_to_tensor((kernel @ mixture)[:, 0][None])
            return [_weighted_sum(activation, weights), _hires_cam(activation, _spread(plain[number], place))]

        (cam, hires), _ = passes.eager(both, image, pruned=True)
        if not passes.agree(hires * cam[0].size, cam, 1e-3):
            raise RuntimeError(
                f"CAM of model {self.model.name!r} is not its HiResCAM times the cells, as it must be before a global "
                f"average pooling and {self._head.dense.name!r}: leave 'cam' out of methods."
            )

    def _verify_gradient(self, image: np.ndarray) -> None:
        """Compare outputs, and the gradient with the slope of the score, at an image that is moved a little.

        So it is done for an image of zeros too, and no ReLU stands exactly at its kink.
        """
        rng, bare = np.random.default_rng(0), self._bare()
        noise = rng.standard_normal(image.shape).astype(image.dtype)
        moved = 0.02 * (float(image.std()) or 1.0)
        image = self._as_seen(image + moved * noise)

        def outputs_of(x, relu=ops.relu, bare=bare, stops=True):
            return passes.replay(self._survey, x, relu, lambda _, t: t, bare, stops)

        found, expected = (
            passes.eager(lambda x: outputs_of(x, bare=()), image)[0],
            passes.predict(self.model, self._survey, image)[0],
        )
        if not all(map(_alike, found, expected)):
            self._refuse_replay(image)

        def score(x, c, s, **choices):
            return self._score(outputs_of(x, **choices), c, s)

        def gradient_of(stops: bool) -> tuple:
            def both(x, c, s):
                forward = lambda x, relu, tap: score(x, c, s, relu=relu, stops=stops)[0]  # noqa: E731
                y, _, plain, _ = passes.gradients(forward, x, (INPUT,), False)
                return [y, plain[INPUT], score(x, c, s)[1]]

            return passes.eager(both, image, np.full(1, PREDICTED, "int32"), np.ones(1, "float32"), pruned=True)[0]

        y, gradient, chosen = gradient_of(stops=True)
        if any(step.stops for step in self._steps):
            self._refuse_stops(gradient, gradient_of(stops=False)[1])
        value = lambda x: float(passes.eager(score, x, chosen, np.ones(1, "float32"))[0][0][0])  # noqa: E731
        size, longest = max(abs(float(y[0])), 0.1), 0.2 * moved  # no voxel goes back to where it was
        opaque = [step.name for step in self._steps if step.opaque]
        directions = [gradient if gradient.any() else noise]
        directions += [noise, noise[::-1, ::-1] * gradient] if opaque else []
        for direction in directions:
            slope, found, reliable = _slopes(value, image, gradient, direction, size, longest)
            if reliable and abs(found - slope) > (0.05 if opaque else 0.3) * max(abs(slope), abs(found)):
                raise RuntimeError(
                    f"The gradient of model {self.model.name!r} is not the slope of its output ({slope:.3g} along a "
                    f"line, and {found:.3g} by finite differences): "
                    + (f"{opaque[0]!r} has" if opaque else "a layer has")
                    + " a gradient of its own, or hides one."
                )

    def _refuse_stops(self, stopped: np.ndarray, whole: np.ndarray) -> None:
        """Refuse a `stop_gradient` that hides some of the slope; one that hides nothing may be left out as well."""
        if not passes.agree(stopped, whole, 1e-3):
            name = next(step.name for step in self._steps if step.stops)
            raise RuntimeError(
                f"The gradient of model {self.model.name!r} is not the slope of its output: {name!r} hides some of it. "
                "Explain a model without it."
            )


# ------------------------------------------------------------------------------------------------------ thin functions


def saliency(model: keras.Model, images, classes=None, **readings) -> np.ndarray:
    """Return the saliency map: (n, H, W) or (n, H, W, C), signed.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    dy_c / dx (Simonyan et al. 2014, arXiv 1312.6034).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> saliency(model, np.zeros((2, 6, 6, 1)), 0).shape
    (2, 6, 6)
    """
    return _one("saliency", model, images, classes, (), readings)


def guided_backprop(model: keras.Model, images, classes=None, **readings) -> np.ndarray:
    """Return guided backpropagation: (n, H, W) or (n, H, W, C), signed.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    dy_c / dx in which every ReLU lets g through only where a > 0 and g > 0 (Springenberg et al. 2015, arXiv 1412.6806).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> guided_backprop(model, np.zeros((2, 6, 6, 1)), 0).shape
    (2, 6, 6)
    """
    return _one("guided_backprop", model, images, classes, (), readings)


def cam(model: keras.Model, images, classes=None, **readings) -> np.ndarray:
    """Return the class activation map: (n, H', W'), signed.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    sum_k w_kc A_k, with w the weights of the dense layer after the global average pooling and A what is pooled; the
    bias is left out (Zhou et al. 2016, arXiv 1512.04150).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> cam(model, np.zeros((2, 6, 6, 1)), 0).shape
    (2, 4, 4)
    """
    return _one("cam", model, images, classes, (), readings)


def grad_cam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return Grad-CAM of a layer: (n, H', W'), at least 0.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    ReLU(sum_k mean_xy(G_k) A_k) (Selvaraju et al. 2017, arXiv 1610.02391).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> grad_cam(model, np.zeros((2, 6, 6, 1)), 0, "conv").shape
    (2, 4, 4)
    """
    return _one("grad_cam", model, images, classes, (layer,), readings)


def sam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return the saliency activation map of a layer: (n, H', W'), at least 0 where the activations are.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    sum_k |B(G_k)| A'_k; A'_k = max_xy(A_k) - A_k where B(G_k) < 0, else A_k (Philbrick et al. 2018, AJR 211:1184).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> sam(model, np.zeros((2, 6, 6, 1)), 0, "conv").shape
    (2, 4, 4)
    """
    return _one("sam", model, images, classes, (layer,), readings)


def hires_cam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return HiResCAM of a layer: (n, H', W'), signed.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    sum_k G_k A_k (Draelos and Carin 2020, arXiv 2011.08891).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> hires_cam(model, np.zeros((2, 6, 6, 1)), 0, "conv").shape
    (2, 4, 4)
    """
    return _one("hires_cam", model, images, classes, (layer,), readings)


def layer_cam(model: keras.Model, images, classes, layer: str, **readings) -> np.ndarray:
    """Return LayerCAM of a layer: (n, H', W'), at least 0.

    `readings` are the keywords of `Attributor`, and `negative`; the other parameters those of its call.

    Notes
    -----
    ReLU(sum_k ReLU(G_k) A_k) (Jiang et al. 2021, IEEE TIP 30:5875).

    Examples
    --------
    >>> conv = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    >>> pool = keras.layers.GlobalAveragePooling2D()
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), conv, pool, keras.layers.Dense(3)])
    >>> layer_cam(model, np.zeros((2, 6, 6, 1)), 0, "conv").shape
    (2, 4, 4)
    """
    return _one("layer_cam", model, images, classes, (layer,), readings)


def _one(method: str, model: keras.Model, images, classes, layers: tuple, readings: dict) -> np.ndarray:
    negative = readings.pop("negative", False)
    attributor = _kept(model, layers, tuple(sorted(readings.items())))
    return next(iter(attributor(images, classes, method, negative=negative).values()))


@lru_cache(maxsize=4)
def _kept(model: keras.Model, layers: tuple, readings: tuple) -> Attributor:
    """Return an Attributor; the last four are kept, so that a thin function costs no more than a call."""
    return Attributor(model, layers, **dict(readings))


# ----------------------------------------------------------------------------------------------------- maps of a layer


def blur(tensor, sigma: float):
    """Blur each kernel of a tensor (n, H', ..., K), sigma in cells, cut at 4 sigma, edges reflected (b a | a b c).

    Notes
    -----
    B(G)(u) = sum_v w(v) G(u - v) with w(v) proportional to exp(-v^2 / 2 sigma^2) and sum w = 1, one axis after the
    other: `scipy.ndimage.gaussian_filter` with mode="reflect".

    Examples
    --------
    A constant stays what it is, up to the edges:

    >>> tensor = ops.ones((1, 3, 3, 1))
    >>> bool(np.allclose(ops.convert_to_numpy(blur(tensor, 0.75)), 1))
    True
    """
    radius, kernels, shape = int(4 * sigma + 0.5), tensor.shape[-1], ops.shape(tensor)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    filters = np.tile((weights / weights.sum()).reshape(-1, 1, 1, 1), (1, 1, kernels, 1))
    filters = ops.convert_to_tensor(filters, "float32")
    for axis in range(1, len(shape) - 1):
        cells = shape[axis]
        flat = (math.prod(shape[:axis]), cells, math.prod(shape[axis + 1 : -1]), kernels)
        near = ops.mod(ops.arange(-radius, cells + radius, dtype="int32"), 2 * cells)
        reflected = ops.take(ops.reshape(tensor, flat), ops.minimum(near, 2 * cells - 1 - near), axis=1)
        tensor = ops.depthwise_conv(reflected, filters, padding="valid", data_format="channels_last")
        tensor = ops.reshape(tensor, shape)
    return tensor


def _sam(activation, gradient, sigma, maximum, inversion, reading):
    if reading == "mean":
        gradient = ops.mean(gradient, axis=_inner_axes(gradient), keepdims=True)
    elif sigma is not None:
        gradient = blur(gradient, sigma)
    if inversion:
        axes = _inner_axes(activation) + ((len(activation.shape) - 1,) if maximum == "layer" else ())
        highest = ops.max(activation, axis=axes, keepdims=True)
        return ops.sum(gradient * ops.where(gradient < 0, activation - highest, activation), axis=-1)
    return ops.sum(ops.abs(gradient) * activation, axis=-1)


def _grad_cam(activation, gradient):
    return ops.relu(_weighted_sum(activation, ops.mean(gradient, axis=_inner_axes(gradient))))


def _hires_cam(activation, gradient):
    return ops.sum(gradient * activation, axis=-1)


def _layer_cam(activation, gradient):
    return ops.relu(ops.sum(ops.relu(gradient) * activation, axis=-1))


def _weighted_sum(activation, weights):
    """Return sum_k w_nk A_nk, activation (n, H', ..., K), weights (n, K)."""
    cells = "hwd"[: len(activation.shape) - 2]
    return ops.einsum(f"n{cells}k,nk->n{cells}", activation, weights)


def _inner_axes(tensor) -> tuple[int, ...]:
    return tuple(range(1, len(tensor.shape) - 1))


def _spread(tensor, place: Place):
    """Return a layer's tensor in float32 with the kernels last and the cells of its map before them."""
    tensor = ops.cast(tensor, "float32")
    if place.tokens:
        lead, rows, columns = place.tokens
        patches = tensor[:, lead : lead + rows * columns]
        return ops.reshape(patches, (ops.shape(tensor)[0], rows, columns, tensor.shape[-1]))
    return tensor if place.channel_axis == len(tensor.shape) - 1 else ops.moveaxis(tensor, place.channel_axis, -1)


# -------------------------------------------------------------------------------------------------------------- values


def _kept_for_later(step: Step) -> bool:
    """Return whether a step's output, or one as large, is needed again on the way back."""
    activation = getattr(step.operation, "activation", network.LINEAR)
    pool = network.named(
        step.operation, "MaxPooling1D MaxPooling2D MaxPooling3D Softmax Sigmoid LayerNormalization Multiply"
    )
    return step.gate != "none" or pool or activation not in (None, network.LINEAR)


def _pair(images: np.ndarray) -> np.ndarray:
    """Return the first image and another one of the same values: what else is in a batch must not matter."""
    return np.concatenate([images[:1], np.ascontiguousarray(images[:1, ::-1])])


def _alike(found: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether two outputs agree; of numbers in [0, 1] the logarithms too, which a saturated softmax keeps."""
    if not passes.agree(found, expected):
        return False
    if expected.min(initial=0) < 0 or expected.max(initial=0) > 1 + 1e-6:
        return True
    return passes.agree(np.log(np.maximum(found, 1e-30)), np.log(np.maximum(expected, 1e-30)), 1e-3)


def _slopes(value: Callable, image, gradient, direction, size: float, longest: float) -> tuple[float, float, bool]:
    """Return the slope of a score along a direction by its gradient and by finite differences, and whether these count.

    They do where two steps agree on them, and rounding is far below.
    """
    direction = direction.astype("float64")
    direction = direction / np.linalg.norm(direction)
    slope, found = float((gradient.astype("float64") * direction).sum()), []
    limit = longest / np.abs(direction).max()
    for share in (1e-2, 2.5e-3):
        step = min(share * size / abs(slope) if slope else limit, limit * 100 * share)
        above, below = (value((image + sign * step * direction).astype(image.dtype)) for sign in (1, -1))
        found.append((above - below) / (2 * step))
    rounding, largest = 1e-6 * size / step, max(abs(slope), *map(abs, found))
    return slope, found[1], abs(found[0] - found[1]) < 0.02 * largest and rounding < 0.02 * largest
