//! The escape corpus (tests/escape): what its cases say of themselves, what is planted for them, and what came of one behind a
//! wall. The harmless part of it is carried in the program and run here. How a wall is made it does not know.

pub mod attack;
pub mod carried;
pub mod case;
mod compiler;
pub mod document;
pub mod ground;
pub mod tree;
pub mod trip;
pub mod verdict;

mod held;

/// What is wrong is for people, in a sentence.
pub type Outcome<T = ()> = Result<T, String>;
