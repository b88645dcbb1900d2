//! Rows and changes of a batch, as the fold made them.
