"""Pure decisions: who owns a run, how long it waits, where it goes, which state follows."""
