"""Average precision by the rules of WIDER FACE, and what it cannot see."""
