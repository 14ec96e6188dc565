//! The self-contained demonstration on real flights.

pub mod flights;

pub mod acts;
pub mod player;
pub mod scene;
pub mod screen;

pub mod show;
