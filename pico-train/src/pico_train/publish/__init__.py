"""Publishing a run on the Hugging Face Hub: a branch per run, one commit and one tag per checkpoint.

`publisher` (what a run sees) · `supervisor` and `worker` (the process that talks to the Hub) · `queue` (what is
pending, on disk) · `steps` (one attempt, in order) · `revision` and `card` (what a revision holds) · `remote` (the
calls) · `finite` and `redact` (what must not be published).
"""

from pico_train.publish.publisher import NotPublishing, Publisher, PublishStatus, check_access, start_publisher

__all__ = ["NotPublishing", "PublishStatus", "Publisher", "check_access", "start_publisher"]
