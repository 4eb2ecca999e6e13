"""What does deep learning see? A reproduction of Philbrick et al., AJR 2018;211:1184-1193."""
