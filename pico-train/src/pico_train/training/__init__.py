"""One optimizer step after another: loss, schedule, optimizer, captures, and the loop around them."""
