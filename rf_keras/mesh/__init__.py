"""Dense faces: a teacher's meshes as targets, their basis, and the errors of a model's own."""
