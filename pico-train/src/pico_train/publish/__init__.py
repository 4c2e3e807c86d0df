"""Publishing a run on the Hugging Face Hub: a branch per run, one commit and one tag per checkpoint.

Works from the run's directory alone, in a process of its own, so that training neither waits for the network nor ends
with it. What is pending is on disk; what was half done is found by reading what the Hub holds.

`publisher` (what a run sees) · `supervisor`, `worker`, `orders` (the process that talks to the Hub) · `queue` (what is
pending, on disk) · `commits` (one attempt, in order) · `main_branch` (what people see first) · `revision`, `card` and
`card_sections` (what a revision holds) · `remote` (the calls) · `nonfinite` and `redact` (what must not be published) ·
`access` and `dry_run` (asking beforehand) · `command` (publishing a run that is on disk) · `set_aside`, `marking`
(steps that the run has set aside).
"""

from pico_train.publish.publisher import NotPublishing, Publisher, PublishStatus, check_access, start_publisher

__all__ = ["NotPublishing", "PublishStatus", "Publisher", "check_access", "start_publisher"]
