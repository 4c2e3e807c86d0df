"""What is wrong with a run's checkpoints: found without knowing what should be there.

`audit` (all checks of a run) · `evidence` (what is read of each checkpoint) · `sampling` (which ranges of its weights)
· `finding` (what a check says) · the checks: `seals`, `schedule`, `documents`, `payloads`, `trajectory`, `beginning`,
`values` · `distances` (between steps).
"""
