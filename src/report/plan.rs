//! tmp
/// t
pub fn text(_: &crate::plan::Preview, _: &crate::preflight::Preflight, _: usize, _: super::text::Paint) -> String {
    String::new()
}
/// t
pub fn json(_: &crate::plan::Preview, _: &crate::preflight::Preflight) -> String {
    String::new()
}
