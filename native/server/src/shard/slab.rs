//! A table whose rows keep their number while they live.

/// Rows by number; numbers are used again, the last freed first.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The number that the next row gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.rows.len() as u32)
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, row: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.rows[number as usize] = Some(row);
                number
            }
            None => {
                self.rows.push(Some(row));
                (self.rows.len() - 1) as u32
            }
        }
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let row = self.rows.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(row)
    }

    /// Ends a row where it stands; one that is not there is no matter.
    pub(crate) fn discard(&mut self, number: u32) {
        if let Some(row @ Some(_)) = self.rows.get_mut(number as usize) {
            *row = None;
            self.free.push(number);
        }
    }

    /// The row of this number.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    /// The row of this number.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_mut()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// All rows with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.rows.iter().enumerate().filter_map(|(number, row)| Some((number as u32, row.as_ref()?)))
    }

    /// All rows with their numbers.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.rows.iter_mut().enumerate().filter_map(|(number, row)| Some((number as u32, row.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_after_its_row_has_gone() {
        let mut slab = Slab::default();
        let [a, b] = ["a", "b"].map(|row| slab.insert(row));
        assert_eq!((slab.remove(a), slab.remove(a)), (Some("a"), None));
        assert_eq!(slab.next_number(), a);
        assert_eq!(slab.insert("c"), a);
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (Some(&"c"), Some(&"b"), 2));
        assert_eq!(slab.iter().map(|(number, _)| number).collect::<Vec<_>>(), [a, b]);
    }
}
