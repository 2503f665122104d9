//! Pages of lists, and the link to the one that follows.
//!
//! One item more than asked for is read: whether it is there says whether there is a next page. So the
//! last page never has a link.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::position::AsOf;
use crate::views::Page;

impl Page {
    /// What to read for this page: it and one item of the next.
    #[must_use]
    pub const fn and_one_more(self) -> Self {
        Self { limit: self.limit + 1, ..self }
    }

    /// Answers with what was `found` for [`Self::and_one_more`]; `next` is the path of the page after
    /// an item.
    pub fn answer<T: Serialize>(
        self,
        found: AsOf<Vec<T>>,
        next: impl FnOnce(&T) -> String,
    ) -> Response {
        let AsOf { position, value: mut items } = found;
        let more = self.cut(&mut items);
        let link = items.last().filter(|_| more).map(|last| link(&next(last), "next"));
        with_link(AsOf { position, value: items }, link)
    }

    /// The same for a page that goes up: it was found from its lowest item on, and is answered newest
    /// first. `prev` is the path of the page above an item.
    pub fn answer_upward<T: Serialize>(
        self,
        found: AsOf<Vec<T>>,
        prev: impl FnOnce(&T) -> String,
    ) -> Response {
        let AsOf { position, value: mut items } = found;
        let more = self.cut(&mut items);
        items.reverse();
        let link = items.first().filter(|_| more).map(|first| link(&prev(first), "prev"));
        with_link(AsOf { position, value: items }, link)
    }

    /// Takes off the one more, and says whether it was there.
    fn cut<T>(self, items: &mut Vec<T>) -> bool {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        more
    }
}

fn link(path: &str, relation: &str) -> HeaderValue {
    let link = format!("<{path}>; rel=\"{relation}\"");
    HeaderValue::try_from(link).expect("digits and ASCII are a valid header")
}

fn with_link<T: Serialize>(found: AsOf<Vec<T>>, link: Option<HeaderValue>) -> Response {
    let mut response = found.into_response();
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    response
}
