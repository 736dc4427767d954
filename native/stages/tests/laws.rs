//! Laws of the stages, as a pipeline sees them.

#[path = "laws/categories.rs"]
mod categories;
#[path = "laws/hostile.rs"]
mod hostile;
#[path = "laws/images.rs"]
mod images;
#[path = "laws/options.rs"]
mod options;
#[path = "laws/resizes.rs"]
mod resizes;
#[path = "laws/rows.rs"]
mod rows;
#[path = "laws/texts.rs"]
mod texts;
