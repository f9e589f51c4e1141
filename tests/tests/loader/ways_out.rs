//! Programs on ways out by either means, links and filters: put there, replaced, given back and taken away, beside what others have.

mod beside;
mod found;
mod place;
mod replaced;
mod undone;
