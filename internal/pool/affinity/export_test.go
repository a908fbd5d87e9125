package affinity

// Len is how many keys are remembered.
func (t *Table[W]) Len() int { return len(t.keys) }
