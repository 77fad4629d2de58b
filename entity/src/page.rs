//! Numbered pages of registry lists.

/// Number and size of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Page number from 1; 0 counts as 1.
    pub page: u64,
    /// Items on a page, 1 to [`Page::MAX_SIZE`]; other values count as the nearest end.
    pub page_size: u64,
}

impl Page {
    pub const MAX_SIZE: u64 = 500;

    pub fn new(page: u64, page_size: u64) -> Self {
        Self { page, page_size }
    }

    pub(crate) fn limit(self) -> u64 {
        self.page_size.clamp(1, Self::MAX_SIZE)
    }

    /// Returns the rows before the page; never more than a database's signed number holds.
    pub(crate) fn offset(self) -> u64 {
        (self.page.max(1) - 1).saturating_mul(self.limit()).min(i64::MAX as u64)
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { page: 1, page_size: 50 }
    }
}

/// One page of a list, and the number of items in the whole list.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    pub items: Vec<T>,
    pub page: u64,
    pub page_size: u64,
    pub total: u64,
}

impl<T> Paged<T> {
    pub(crate) fn of(items: Vec<T>, page: Page, total: u64) -> Self {
        Self { items, page: page.page.max(1), page_size: page.limit(), total }
    }

    /// Returns a page of a whole list.
    pub fn of_all(all: impl ExactSizeIterator<Item = T>, page: Page) -> Self {
        let total = all.len() as u64;
        let before = usize::try_from(page.offset()).unwrap_or(usize::MAX);
        let most = usize::try_from(page.limit()).unwrap_or(usize::MAX);
        Self::of(all.skip(before).take(most).collect(), page, total)
    }

    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U) -> Paged<U> {
        let items = self.items.into_iter().map(convert).collect();
        Paged { items, page: self.page, page_size: self.page_size, total: self.total }
    }

    /// Converts each item; the first that cannot be is the error.
    pub fn try_map<U, E>(self, convert: impl Fn(T) -> Result<U, E>) -> Result<Paged<U>, E> {
        let items = self.items.into_iter().map(convert).collect::<Result<_, _>>()?;
        Ok(Paged { items, page: self.page, page_size: self.page_size, total: self.total })
    }
}
