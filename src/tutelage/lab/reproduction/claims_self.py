"""Claims of methods that teach themselves under a context, or that join a teacher with a verifier's reward."""

from collections.abc import Mapping

from tutelage.lab.reproduction.claim import Claim, Knob

SETUPS: Mapping[str, Mapping[str, Knob]] = {
    "opsd": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
    "pw_opsd": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
    "selfci": {"allowed_column": "solution", "withheld_column": "privileged_context"},
    "rlsd": {"n": 8, "column": "solution"},
    "sdpo": {"n": 8},
    "srpo": {"n": 8},
}

CLAIMS: tuple[Claim, ...] = (
    Claim(
        method="opsd",
        task="privileged",
        statement="A student that teaches itself with the solution in view ends above one that sees only rewards.",
        source="2601.18734",
        baseline="grpo",
    ),
    Claim(
        method="opsd",
        task="privileged",
        statement="What the privileged context says of all problems alike is absorbed, where it says one thing each it is not.",
        source="2605.11182",
        metric="slice:shared rule",
        baseline="grpo",
    ),
    Claim(
        method="sdpo",
        task="feedback",
        statement="Feedback and successful peers, read by the student as its own teacher, beat the bare reward.",
        source="2601.20802",
        baseline="grpo",
    ),
    Claim(
        method="pw_opsd",
        task="privileged",
        statement="Later tokens of the privileged teacher are the reliable ones: weights that rise with position help.",
        source="2605.21606",
        baseline="opsd",
    ),
    Claim(
        method="avsd",
        task="privileged",
        statement="Agreement between several privileged views filters out what belongs to one view only.",
        source="2605.20643",
        baseline="opsd",
    ),
    Claim(
        method="selfci",
        task="privileged",
        statement="Two contexts as a product of experts keep what both support.",
        source="2605.20258",
        baseline="opsd",
    ),
    Claim(
        method="rlsd",
        task="privileged",
        statement="The reward gives the sign and the privileged log-ratio the size: above the reward alone.",
        source="2604.03128",
        baseline="grpo",
    ),
    Claim(
        method="rlsd",
        task="privileged",
        statement="And above matching the privileged teacher's distribution.",
        source="2604.03128",
        baseline="opsd",
    ),
    Claim(
        method="srpo",
        task="feedback",
        statement="Rewarding right responses and distilling wrong ones beats the reward alone.",
        source="2604.02288",
        baseline="grpo",
    ),
    Claim(
        method="srpo",
        task="feedback",
        statement="And it beats distilling all of them.",
        source="2604.02288",
        baseline="sdpo",
    ),
    Claim(
        method="dgrpo",
        task="format",
        statement="A divergence from the teacher added to the reward's objective beats the reward alone.",
        source="2605.12227",
        baseline="grpo",
    ),
)
