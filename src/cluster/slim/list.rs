//! Cuts a list's JSON into its items as it arrives, so that one item at a time is held and never a page.

use serde::Deserialize;

use super::DecodeError;
use super::core::null_default;

/// What surrounds the items of a list.
#[derive(Debug, Deserialize)]
pub(in crate::cluster) struct Envelope {
    /// The list's metadata.
    pub(in crate::cluster) metadata: ListMeta,
}

/// `metadata` of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct ListMeta {
    /// Where a watch goes on from.
    pub(in crate::cluster) resource_version: String,
    /// The token of the next page; empty after the last.
    #[serde(rename = "continue", default, deserialize_with = "null_default")]
    pub(in crate::cluster) next: String,
}

/// An incremental scanner over `{…,"items":[ITEM,ITEM,…],…}`.
///
/// ```text
///   Envelope --"items":[--> Between --{--> Item --matching }--> Between --]--> Envelope
/// ```
#[derive(Debug, Default)]
pub(in crate::cluster) struct Splitter {
    /// Everything but the items, parsed at the end.
    envelope: Vec<u8>,
    /// The item being read.
    item: Vec<u8>,
    /// Open braces and brackets.
    depth: usize,
    place: Place,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Envelope,
    Between,
    Item,
}

/// Depth of an item's own braces: list object, items array, item.
const ITEM_DEPTH: usize = 3;

impl Splitter {
    /// Takes the next bytes and hands each item that is complete with them to `each`.
    pub(in crate::cluster) fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.in_string {
                bytes = self.string(bytes);
                continue;
            }
            let plain = bytes.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']'));
            let (head, rest) = bytes.split_at(plain.unwrap_or(bytes.len()));
            self.keep(head);
            let Some((&mark, rest)) = rest.split_first() else { return Ok(()) };
            bytes = rest;
            match mark {
                b'"' => {
                    self.in_string = true;
                    self.keep(b"\"");
                }
                b'{' | b'[' => self.open(mark),
                _ => {
                    if self.close(mark) {
                        each(&self.item)?;
                        self.item.clear();
                    }
                }
            }
        }
        Ok(())
    }

    /// The envelope, once every byte was fed.
    pub(in crate::cluster) fn finish(self) -> Result<Envelope, DecodeError> {
        serde_json::from_slice(&self.envelope).map_err(|cause| DecodeError { what: "a list", cause })
    }

    /// Consumes up to and including the end of a string.
    fn string<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.escaped {
            self.escaped = false;
            let (one, rest) = bytes.split_at(1);
            self.keep(one);
            return rest;
        }
        let Some(end) = bytes.iter().position(|b| matches!(b, b'"' | b'\\')) else {
            self.keep(bytes);
            return &[];
        };
        let (part, rest) = bytes.split_at(end + 1);
        self.keep(part);
        if bytes[end] == b'\\' {
            self.escaped = true;
        } else {
            self.in_string = false;
        }
        rest
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.place {
            Place::Envelope => self.envelope.extend_from_slice(bytes),
            Place::Item => self.item.extend_from_slice(bytes),
            // Commas and blanks.
            Place::Between => {}
        }
    }

    fn open(&mut self, mark: u8) {
        if self.place == Place::Envelope && mark == b'[' && self.depth == 1 && self.names_items() {
            self.envelope.push(mark);
            self.place = Place::Between;
        } else {
            if self.place == Place::Between {
                self.place = Place::Item;
            }
            self.keep(&[mark]);
        }
        self.depth += 1;
    }

    /// Returns whether an item is complete.
    fn close(&mut self, mark: u8) -> bool {
        self.depth = self.depth.saturating_sub(1);
        match self.place {
            Place::Between => {
                self.place = Place::Envelope;
                self.keep(&[mark]);
                false
            }
            Place::Item => {
                self.keep(&[mark]);
                let complete = self.depth < ITEM_DEPTH;
                if complete {
                    self.place = Place::Between;
                }
                complete
            }
            Place::Envelope => {
                self.keep(&[mark]);
                false
            }
        }
    }

    /// Whether the key just read is `items`.
    fn names_items(&self) -> bool {
        let before = self.envelope.trim_ascii_end();
        before.strip_suffix(b":").is_some_and(|key| key.trim_ascii_end().ends_with(b"\"items\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"kind":"PodList","metadata":{"resourceVersion":"77","continue":"abc","items":["not","these"]},
        "items" : [ {"a":"}]\"{","items":[{"x":[]}]} ,{"b":"\\"},{}],"after":{"items":[1]}}"#;

    fn split(step: usize) -> (Vec<String>, Envelope) {
        let mut splitter = Splitter::default();
        let mut items = Vec::new();
        for chunk in LIST.as_bytes().chunks(step) {
            splitter
                .feed(chunk, |item| {
                    items.push(String::from_utf8(item.to_vec()).unwrap());
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        (items, splitter.finish().unwrap())
    }

    #[test]
    fn items_are_whole_however_the_bytes_arrive() {
        for step in 1..LIST.len() + 1 {
            let (items, envelope) = split(step);
            assert_eq!(items, [r#"{"a":"}]\"{","items":[{"x":[]}]}"#, r#"{"b":"\\"}"#, "{}"], "chunks of {step}");
            assert_eq!((&*envelope.metadata.resource_version, &*envelope.metadata.next), ("77", "abc"));
        }
    }

    #[test]
    fn a_list_cut_short_is_an_error() {
        let mut splitter = Splitter::default();
        splitter.feed(&LIST.as_bytes()[..120], |_| Ok::<_, ()>(())).unwrap();
        assert!(splitter.finish().is_err());
    }

    #[test]
    fn an_empty_list_and_one_of_null_hold_nothing() {
        for list in [
            r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#,
            r#"{"metadata":{"resourceVersion":"1"},"items":null}"#,
        ] {
            let mut splitter = Splitter::default();
            splitter.feed(list.as_bytes(), |_| Err("an item")).unwrap();
            assert_eq!(splitter.finish().unwrap().metadata.next, "");
        }
    }
}
