"""Claims of methods whose teacher is another model with visible probabilities."""

from collections.abc import Mapping

from tutelage.lab.reproduction.claim import Claim, Knob, OfRun

SETUPS: Mapping[str, Mapping[str, Knob]] = {
    "tropd": {"prefix_steps": OfRun(share=0.5)},
    "vopd": {"baseline_k": 0},
}

CLAIMS: tuple[Claim, ...] = (
    Claim(
        method="vopd",
        task="chain",
        statement="Centring the sampled signal by its own mean lifts it to the level of the exact divergence.",
        source="2605.07865",
    ),
    Claim(
        method="vopd",
        task="long",
        statement="The same, where responses are long and the sampled gradient is noisier.",
        source="2605.07865",
    ),
    Claim(
        method="tropd",
        task="mismatch",
        statement="Forward KL on the tokens that the teacher would refuse keeps extreme log-ratios from ruining the step.",
        source="2606.01249",
    ),
    Claim(
        method="trb",
        task="mismatch",
        statement="Letting the teacher move the student's first prefixes, inside a shrinking KL ball, beats plain rollouts.",
        source="2605.31159",
        baseline="gkd",
    ),
    Claim(
        method="esr",
        task="long",
        statement="Rollouts that stop after their first tokens teach more per token than whole ones.",
        source="2605.27028",
        metric="accuracy_at_tokens",
    ),
    Claim(
        method="esr",
        task="long",
        statement="And nothing is lost in the end by never supervising what comes later.",
        source="2605.27028",
        direction="no_worse",
    ),
    Claim(
        method="adwin",
        task="long",
        statement="A window that grows only where its gradient leaves the full one's needs fewer tokens for the same accuracy.",
        source="2605.28396",
        metric="tokens_to_reach",
        direction="lower",
    ),
    Claim(
        method="kat",
        task="long",
        statement="Ending a rollout where the teacher merely agrees with a lost prefix saves tokens and learns more with them.",
        source="2606.09471",
        metric="accuracy_at_tokens",
    ),
    Claim(
        method="lightning",
        task="chain",
        statement="Responses scored once by the teacher and replayed train as well as fresh ones.",
        source="2604.13010",
        direction="no_worse",
    ),
    Claim(
        method="f_opd",
        task="chain",
        statement="Weighting stored responses by freshness brings stale training close to synchronous training.",
        source="2605.17862",
        direction="no_worse",
    ),
    Claim(
        method="brts",
        task="mismatch",
        statement="The best of a few teacher responses unblocks problems that the student never solves by itself.",
        source="2605.09725",
    ),
    Claim(
        method="revisiting",
        task="noisy_teacher",
        statement="The divergence on the teacher's likeliest tokens is sounder than one sampled log-ratio.",
        source="2603.25562",
    ),
    Claim(
        method="many_faces",
        task="chain",
        statement="Top-k divergences need their weights detached; with that the student's own top-k beats one sampled token.",
        source="2605.11182",
    ),
    Claim(
        method="exopd",
        task="chain",
        statement="Extrapolating past the teacher, away from where the student began, ends above matching the teacher.",
        source="2602.12125",
    ),
    Claim(
        method="reopold",
        task="mismatch",
        statement="A floor under the log-ratio and a mask by entropy make the sampled signal learn faster.",
        source="2603.11137",
        metric="mean_accuracy",
    ),
    Claim(
        method="eopd",
        task="forks",
        statement="Forward KL where the teacher itself is uncertain keeps several right answers alive.",
        source="2603.07079",
        metric="coverage",
    ),
    Claim(
        method="tip",
        task="noisy_teacher",
        statement="Half of the tokens, drawn by the student's entropy, teach as much as all of them.",
        source="2604.14084",
        direction="no_worse",
    ),
    Claim(
        method="ta_opd",
        task="noisy_teacher",
        statement="The few tokens with both a large divergence and shared candidates teach more than all tokens.",
        source="2605.26844",
    ),
    Claim(
        method="fire_opd",
        task="noisy_teacher",
        statement="Dropping the responses that the teacher finds least likely and reweighting tokens by both entropies helps.",
        source="2606.02684",
    ),
    Claim(
        method="scope",
        task="chain",
        statement="Correcting wrong responses by the teacher and reinforcing rare right ones beats correcting all alike.",
        source="2604.10688",
    ),
    Claim(
        method="scope",
        task="forks",
        statement="And it raises what several attempts cover together.",
        source="2604.10688",
        metric="coverage",
    ),
    Claim(
        method="sod",
        task="agent",
        statement="Trusting the teacher less on steps after which the student has drifted helps an agent with tools.",
        source="2605.07725",
    ),
    Claim(
        method="iw_opd",
        task="long",
        statement="Weighting early tokens up, before disagreement has piled up, ends above equal weights.",
        source="2606.22600",
    ),
    Claim(
        method="mopd",
        task="two_domains",
        statement="A student taught by each domain's own expert keeps both, where a single expert makes it forget the other.",
        source="2601.02780",
        metric="worst_slice",
    ),
    Claim(
        method="effopd",
        task="chain",
        statement="Extrapolating the weights along the path taken, where a check approves, needs fewer tokens.",
        source="2605.11739",
        metric="tokens_to_reach",
        direction="lower",
    ),
)
