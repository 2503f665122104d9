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
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let link = items.last().filter(|_| more).map(|last| {
            let link = format!("<{}>; rel=\"next\"", next(last));
            HeaderValue::try_from(link).expect("digits and ASCII are a valid header")
        });
        let mut response = AsOf { position, value: items }.into_response();
        response.headers_mut().extend(link.map(|link| (header::LINK, link)));
        response
    }
}
