//! Readers of headers against strangers' files, and against the libraries that read the same files after them.

mod agree;
mod code;
mod facts;
mod hostile;
mod mutations;
mod pickles;
mod samples;
mod tars;
mod unmarked;
