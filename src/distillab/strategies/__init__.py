"""The methods, one file each: a loss as a pure function, and the term that trains with it.

Every loss returns a scalar in float32 or wider, whatever goes in, and sends no gradient to the teacher; it raises
UserError, naming the argument, where shapes do not go together or a number is out of its range. So does a term for its
numbers; where it cannot work between two models, `connect` does. In the names of arguments `_s` is the student's side
and `_t` the teacher's: `s`, `t` are logits, `e_s`, `e_t` embeddings (N, d), `F_s`, `F_t` maps (N, C, H, W).
"""
