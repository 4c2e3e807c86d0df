"""What a probe is: its page, the metrics that it gives, and the version that its rows are keyed by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pico_analyze.errors import UsageError, nearest
from pico_analyze.parameters import Param
from pico_analyze.probes.chains import AGREE


@dataclass(frozen=True)
class Measured:
    """One metric of a probe: a name in the column `metric`."""

    name: str
    definition: str
    range: str
    place: str
    """What there is a row of: step, layer, head, pair of steps."""
    formula: str = ""
    """The same in LaTeX, for pages that render it; the letters are explained on the page of all probes."""


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: its page."""

    name: str
    definition: str
    metrics: tuple[Measured, ...]
    needs: str
    cost: str
    reference: str
    version: int = 1
    """Raised whenever a value changes for the same question: rows of before are computed again."""
    arrays: str = ""
    """What is stored beside the table at each step; empty for nothing."""
    params: Mapping[str, Param] = field(default_factory=dict)
    """Its parameters, by name."""
    costly: bool = False
    """Whether it is only measured where it is named, and its cost agreed to; it then needs the extra [curvature]."""


_HEAD, _LAYER, _STEP, _PAIR = "step, layer, head", "step, layer", "step", "pair of steps"

INDUCTION = ProbeSpec(
    name="induction",
    definition="Whether heads look for what came after an earlier occurrence of the present token, and copy it; and "
    "what a longer context is worth. Heads are read on random tokens x_0 … x_{L-1} x_0 … x_{L-1}, all L of them "
    "distinct, drawn with --seed, without a token of beginning; L is half of what the model reads, at most 128.",
    metrics=(
        Measured(
            "prefix_matching",
            "Mean attention, over the second copy, from position t to t - L + 1, the token after the earlier "
            "occurrence of the present one.",
            "0 to 1; 1 for a head that looks nowhere else",
            _HEAD,
            formula=r"\Bigl\langle \frac{1}{L} \sum_{t=L}^{2L-1} A(t,\ t - L + 1) \Bigr\rangle",
        ),
        Measured(
            "copying",
            "2 r - 1, where r is the share that a token has in all logits raised by the head when it attends to that "
            "token alone: c = W_U g(W_O v) over the L tokens, less its mean, negative entries set to 0; g is the scale "
            "of the final norm. Mean over the first copy.",
            "-1 to 1; 1 for a head that raises what it reads and nothing else, 2/L - 1 by chance",
            _HEAD,
            formula=(
                r"\Bigl\langle \frac{1}{L} \sum_{j=0}^{L-1} (2 r_j - 1) \Bigr\rangle, \qquad "
                r"r_j = \frac{[c_{jj} - \bar c_j]_+}{\sum_{u=0}^{L-1} [c_{ju} - \bar c_j]_+}, \qquad "
                r"c_{ju} = (W_U)_{x_u} \cdot (g \odot W_O\, v_j)"
            ),
        ),
        Measured(
            "in_context_score",
            "Loss at position 50 less loss at position 500 of the rows, nats; of rows that are shorter, at a tenth of "
            "their length and at the end (early, late in params). Positions count the tokens that were read. Olsson et "
            "al. take the difference the other way round.",
            "any; positive where a longer context helps",
            _STEP,
            formula=(
                r"\bigl\langle \ell_a - \ell_b \bigr\rangle, \qquad (a, b) = (50,\ 500) \text{ or, where } T < 500,\ "
                r"(\mathrm{round}(T / 10),\ T)"
            ),
        ),
        Measured(
            "loss_at_position",
            "Mean loss of the rows after so many tokens (position in params: powers of two, and the last), nats.",
            "0 to infinity",
            "step, position",
            formula=r"\langle \ell_n \rangle, \qquad n = 1,\ 2,\ 4,\ 8,\ \dots,\ T",
        ),
    ),
    needs="attention that can be read (eager), 8 positions; the in-context score: rows of at least 20 tokens",
    cost="one pass over 8 rows of 2 L random tokens, one over the rows",
    reference="Olsson et al. 2022, In-context Learning and Induction Heads, transformer-circuits.pub (per-head "
    "evaluators; in-context learning score)",
    params={
        "tokens": Param(
            "all",
            "what random tokens are drawn from: the whole vocabulary, or the tokens that occur in the rows, for a "
            "model that was trained on few of those that it knows (Olsson et al. leave out the least common ones)",
            choices=("all", "seen"),
        )
    },
)

ATTENTION = ProbeSpec(
    name="attention",
    definition="Where heads look, on the rows: means over rows and over all positions but the first, which can look at "
    "itself alone. A(t, j) is the attention of position t on position j, counted from 0.",
    metrics=(
        Measured(
            "attention_entropy",
            "-Σ_j A(t, j) ln A(t, j), nats; uniform attention on T positions has ln T.",
            "0 to ln T",
            _HEAD,
            formula=r"\Bigl\langle -\frac{1}{T-1} \sum_{t=1}^{T-1} \sum_{j=0}^{T-1} A(t, j) \ln A(t, j) \Bigr\rangle",
        ),
        Measured(
            "sink_mass",
            "A(t, 0): attention on the first token.",
            "0 to 1",
            _HEAD,
            formula=r"\Bigl\langle \frac{1}{T-1} \sum_{t=1}^{T-1} A(t, 0) \Bigr\rangle",
        ),
        Measured(
            "previous_token",
            "A(t, t - 1): attention on the token before.",
            "0 to 1",
            _HEAD,
            formula=r"\Bigl\langle \frac{1}{T-1} \sum_{t=1}^{T-1} A(t,\ t - 1) \Bigr\rangle",
        ),
        Measured(
            "attention_distance",
            "Σ_j A(t, j) (t - j): how far back, in tokens.",
            "0 to T - 1",
            _HEAD,
            formula=r"\Bigl\langle \frac{1}{T-1} \sum_{t=1}^{T-1} \sum_{j=0}^{T-1} A(t, j)\, (t - j) \Bigr\rangle",
        ),
    ),
    needs="attention that can be read (eager), rows of at least 2 tokens",
    cost="one pass over the rows; one layer's attention in memory at a time",
    reference="Clark et al. 2019, What Does BERT Look At?, section 3; Xiao et al. 2024, Efficient Streaming Language "
    "Models with Attention Sinks",
    arrays="the four means of each row (layer, head, row)",
)

TOKEN_LOSSES = ProbeSpec(
    name="token_losses",
    definition="The loss of every token of the rows at every step, kept, and what follows from it: distance from "
    "n-grams, when tokens are learned and forgotten, which rows are known by heart.",
    metrics=(
        Measured(
            "mean_loss",
            "Mean of -ln p(token | those before), nats.",
            "0 to infinity",
            _STEP,
            formula=r"\Bigl\langle \frac{1}{T} \sum_{n=1}^{T} \ell_n \Bigr\rangle",
        ),
        Measured(
            "unigram_kl",
            "Mean KL(unigram || model): Σ_v q(v) ln(q(v) / p(v)), q the counted frequencies, nats.",
            "0 to infinity; 0 for a model that says the frequencies",
            _STEP,
            formula=r"\Bigl\langle \frac{1}{T} \sum_{n=1}^{T} \sum_v q(v) \ln \frac{q(v)}{p_n(v)} \Bigr\rangle",
        ),
        Measured(
            "bigram_kl",
            "Mean KL(bigram || model) over positions whose token was counted: q(v | last token) counted, nats.",
            "0 to infinity; 0 for a bigram model",
            _STEP,
            formula=(
                r"\Bigl\langle \frac{1}{|B|} \sum_{n \in B} \sum_v q(v \mid x_{n-1}) "
                r"\ln \frac{q(v \mid x_{n-1})}{p_n(v)} \Bigr\rangle, \qquad "
                r"B = \{\, n : x_{n-1} \text{ was counted with a token after it} \,\}"
            ),
        ),
        Measured(
            "memorised",
            "Share of rows whose tokens k to 2k - 1 are what greedy decoding gives after the first k. Split train: "
            "rows of batches that were trained on before the step; split val: the control, rows never trained on.",
            "0 to 1",
            "step, split",
            formula=(
                r"\bigl\langle \mathbf{1}\{\, \hat x_n = x_n \text{ for all } n = k,\ \dots,\ 2k - 1 \,\} "
                r"\bigr\rangle"
            ),
        ),
        Measured(
            "matching_tokens",
            "Mean number of tokens, of those k, that greedy decoding gets right before its first mistake.",
            "0 to k",
            "step, split",
            formula=r"\Bigl\langle \sum_{m=k}^{2k-1} \prod_{n=k}^{m} \mathbf{1}\{ \hat x_n = x_n \} \Bigr\rangle",
        ),
        Measured(
            "forgotten",
            "Of tokens that were the most probable ones at the measured step before (target_step), the share that no "
            "longer are: forgetting events.",
            "0 to 1",
            _PAIR,
            formula=(
                r"\frac{\#\{\, (i, n) : \hat x'_{in} = x_{in},\ \hat x_{in} \ne x_{in} \,\}}"
                r"{\#\{\, (i, n) : \hat x'_{in} = x_{in} \,\}}"
            ),
        ),
        Measured(
            "age_of_acquisition",
            "Median, over kinds of tokens with 8 occurrences or more, of the step at which a sigmoid fitted to their "
            "mean loss over ln(1 + step) is halfway between ln V and the lowest value measured; one line for each is "
            "in a file acquisition-….csv beside the losses.",
            "first to last step",
            "the last step",
            formula=(
                r"\operatorname*{median}_{v}\ \exp\Bigl(\mu_v - w_v \ln \frac{h_v - b_v}{a_v - h_v}\Bigr) - 1, \qquad "
                r"h_v = \tfrac{1}{2} \bigl(\ln V + \min_s \ell_{v,s}\bigr), \qquad "
                r"\ell_{v,s} \approx b_v + \frac{a_v - b_v}{1 + \exp\bigl((\ln(1 + s) - \mu_v) / w_v\bigr)}"
            ),
        ),
    ),
    needs="rows; n-grams: counted in the batches that the run keeps, or in the rows; memorisation: batches that the "
    "run keeps; age of acquisition: 5 steps",
    cost="one pass over the rows, one over the beginnings of at most 32 rows of training, evenly chosen",
    reference="Chang & Bergen 2022, Word Acquisition in Neural Language Models, section 3; Toneva et al. 2019, An "
    "Empirical Study of Example Forgetting, section 3; Biderman et al. 2023, Emergent and Predictable Memorization, "
    "section 2; Belrose et al. 2024, Neural Networks Learn Statistics of Increasing Complexity",
    arrays="losses and whether the token was the most probable one (row, position), float32 and bytes; the same of "
    "the beginnings of training rows",
)

LOGIT_LENS = ProbeSpec(
    name="logit_lens",
    definition="What the model would say if it ended after a block: the final norm and the unembedding applied to the "
    "residual stream after each, at evenly spaced positions of the rows.",
    metrics=(
        Measured(
            "lens_kl",
            "Mean KL(output || lens), nats; 0 after the last block.",
            "0 to infinity",
            _LAYER,
            formula=(
                r"\Bigl\langle \frac{1}{|P|} \sum_{n \in P} \sum_v p_n(v) \ln \frac{p_n(v)}{\tilde p_n(v)} "
                r"\Bigr\rangle, \qquad \tilde p_n = \mathrm{softmax}\bigl(W_U\, \mathrm{norm}(h_n)\bigr)"
            ),
        ),
        Measured(
            "lens_agreement",
            "Share of positions where lens and output put the same token first.",
            "0 to 1",
            _LAYER,
            formula=(
                r"\Bigl\langle \frac{1}{|P|} \sum_{n \in P} \mathbf{1}\{ \arg\max_v \tilde p_n(v) = "
                r"\arg\max_v p_n(v) \} \Bigr\rangle"
            ),
        ),
    ),
    needs="a final norm and an unembedding whose product is the model's output: this is compared, and said if not",
    cost="one pass over the rows, and one unembedding a layer",
    reference="nostalgebraist 2020, interpreting GPT: the logit lens; Belrose et al. 2023, Eliciting Latent "
    "Predictions with the Tuned Lens, section 2",
)

OUTPUT_DISTANCE = ProbeSpec(
    name="output_distance",
    definition="How far what the model says lies from what it says at another step (--target), or another run at the "
    "same step, at evenly spaced positions of the same rows.",
    metrics=(
        Measured(
            "output_entropy",
            "Mean entropy of the output, nats.",
            "0 to ln V",
            _STEP,
            formula=r"\Bigl\langle -\frac{1}{|P|} \sum_{n \in P} \sum_v p_n(v) \ln p_n(v) \Bigr\rangle",
        ),
        Measured(
            "output_kl",
            "Mean KL(step || target), nats.",
            "0 to infinity",
            _PAIR,
            formula=r"\Bigl\langle \frac{1}{|P|} \sum_{n \in P} \sum_v p_n(v) \ln \frac{p_n(v)}{p'_n(v)} \Bigr\rangle",
        ),
        Measured(
            "output_jsd",
            "Mean Jensen-Shannon divergence, nats: half of KL to the mean of both, from each side.",
            "0 to ln 2",
            _PAIR,
            formula=(
                r"\Bigl\langle \frac{1}{|P|} \sum_{n \in P} \frac{1}{2} \sum_v \Bigl( p_n(v) \ln \frac{p_n(v)}{m_n(v)} "
                r"+ p'_n(v) \ln \frac{p'_n(v)}{m_n(v)} \Bigr) \Bigr\rangle, \qquad m_n = \frac{p_n + p'_n}{2}"
            ),
        ),
        Measured(
            "top1_flips",
            "Share of positions where another token is the most probable.",
            "0 to 1",
            _PAIR,
            formula=(
                r"\Bigl\langle \frac{1}{|P|} \sum_{n \in P} \mathbf{1}\{ \arg\max_v p_n(v) \ne \arg\max_v p'_n(v) \} "
                r"\Bigr\rangle"
            ),
        ),
    ),
    needs="runs of one vocabulary",
    cost="one pass over the rows; the outputs are kept (positions × vocabulary × 4 bytes a step)",
    reference="Lin 1991, Divergence Measures Based on the Shannon Entropy, equation 4.1",
    arrays="ln p of the whole vocabulary at the positions, float32",
)

CURVATURE = ProbeSpec(
    name="curvature",
    definition="The Hessian of the mean token loss over the rows, with respect to all weights, by products with "
    "vectors: its largest eigenvalue by Lanczos' method, its trace by random vectors of ±1 (hessian-eigenthings).",
    metrics=(
        Measured(
            "hessian_top",
            "Largest eigenvalue λ, nats; residual in extra is ‖H v - λ v‖ of its vector, which bounds the error.",
            "any; 2 / lr is where gradient descent with the step lr is no longer stable",
            _STEP,
            formula=(
                r"\max_{v \in \mathcal{K},\ \|v\| = 1} v^\top H v, \qquad "
                r"\mathcal{K} = \mathrm{span}\{u,\ Hu,\ \dots,\ H^{m-1} u\}, \qquad H = \nabla_{\!w}^2\, \mathcal{L}(w)"
            ),
        ),
        Measured(
            "hessian_trace",
            "Mean of vᵀ H v over random v, nats; with its standard error.",
            "any",
            _STEP,
            formula=r"\frac{1}{M} \sum_{i=1}^{M} v_i^\top H v_i, \qquad v_i \in \{-1, 1\}^d",
        ),
    ),
    needs="the extra [curvature], weights in float32; given by name only, and begun by --yes or --budget",
    cost="iterations + vectors products with the Hessian, each three gradients of all rows; memory for iterations "
    "vectors of the model's size",
    reference="Ghorbani, Krishnan & Xiao 2019, An Investigation into Neural Net Optimization via Hessian Eigenvalue "
    "Density, section 2; Hutchinson 1989; Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at "
    "the Edge of Stability",
    params={
        "iterations": Param(30, "steps of Lanczos' method", low=2, high=1000),
        "vectors": Param(32, "random vectors for the trace", low=2, high=100_000),
    },
    costly=True,
)

LLC = ProbeSpec(
    name="llc",
    definition="The local learning coefficient: how fast the loss rises around the weights, as half the number of "
    "directions that count. Chains of stochastic gradient Langevin dynamics around the weights (devinterp) at the "
    "inverse temperature n β, on batches of the rows; n is the number of tokens predicted in them.",
    metrics=(
        Measured(
            "llc",
            "n β (mean loss along the chains - loss at the weights); standard_error over chains, r_hat, n_beta and "
            f"loss_before in extra. NaN where split R-hat is above {AGREE:g}, with the value as not_converged.",
            "half the number of weights for a regular minimum, less where it is singular; below 0 where the weights "
            "are no minimum",
            _STEP,
            formula=(
                r"n\beta\, \Bigl( \frac{1}{CD} \sum_{c=1}^{C} \sum_{s=1}^{D} \mathcal{L}_{cs} - \mathcal{L}(w) \Bigr), "
                r"\qquad n\beta = \frac{n}{\ln n}, \qquad n = N T"
            ),
        ),
    ),
    needs="the extra [curvature], weights in float32; given by name only, and begun by --yes or --budget",
    cost="chains × (burn_in + draws) gradients of one batch",
    reference="Lau, Furman, Wang, Murfet & Wei 2023, The Local Learning Coefficient: A Singularity-Aware Complexity "
    "Measure, sections 3 and 4; Gelman et al. 2013, Bayesian Data Analysis, section 11.4 (split R-hat)",
    arrays="the loss at each draw of each chain (chain, draw), float64",
    params={
        "chains": Param(4, "chains", low=2, high=1000),
        "draws": Param(200, "draws of each chain", low=4, high=1_000_000),
        "burn_in": Param(300, "steps of each chain before its first draw", low=0, high=1_000_000),
        "lr": Param(2e-5, "step size of the chains", low=1e-30, high=1e3),
        "localization": Param(1000.0, "strength γ with which chains are drawn back to the weights", low=0.0, high=1e12),
        "n_beta": Param(0.0, "inverse temperature; 0 for n / ln n", low=0.0, high=1e30),
    },
    costly=True,
)

PROBES: dict[str, ProbeSpec] = {
    spec.name: spec for spec in (INDUCTION, ATTENTION, TOKEN_LOSSES, LOGIT_LENS, OUTPUT_DISTANCE, CURVATURE, LLC)
}
"""All probes, in the order in which they are told."""


def probe(name: str) -> ProbeSpec:
    """The probe of a name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in PROBES:
        raise UsageError(f"no probe is called {name!r}{nearest(name, PROBES)} (there are: {', '.join(PROBES)})")
    return PROBES[name]


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Probes by name, in their order; without a name all but the costly ones."""
    wanted = {probe(name).name for name in names} or {name for name, spec in PROBES.items() if not spec.costly}
    return tuple(name for name in PROBES if name in wanted)


def costly(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some probes whose cost is told before they begin."""
    return tuple(name for name in names if PROBES[name].costly)
