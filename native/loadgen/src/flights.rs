//! Requests on their way.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    /// When it should have been sent.
    pub(crate) due_ns: u64,
    /// On which connection it went.
    pub(crate) connection: u32,
    /// Its class among the plan's.
    pub(crate) class: u16,
    /// Due within the part that counts.
    pub(crate) counted: bool,
}

/// All of them, by a token that an answer comes back with. Tokens are used again, so each has a generation for whoever
/// keeps one for long.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    slots: Vec<(u32, Option<Flight>)>,
    free: Vec<u32>,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn add(&mut self, flight: Flight) -> u32 {
        let token = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            // No run has four billion requests on their way: connections and streams are bounded far below.
            (self.slots.len() - 1) as u32
        });
        let (generation, slot) = &mut self.slots[token as usize];
        *generation = generation.wrapping_add(1);
        *slot = Some(flight);
        token
    }

    pub(crate) fn generation(&self, token: u32) -> u32 {
        self.slots.get(token as usize).map_or(0, |(generation, _)| *generation)
    }

    pub(crate) fn take(&mut self, token: u32) -> Option<Flight> {
        let flight = self.slots.get_mut(token as usize)?.1.take()?;
        self.free.push(token);
        Some(flight)
    }

    /// The one that the token stood for when it had this generation, if it is still on its way.
    pub(crate) fn find(&self, token: u32, generation: u32) -> Option<Flight> {
        self.slots.get(token as usize).filter(|(found, _)| *found == generation)?.1
    }

    /// Tokens of all that are on their way on a connection.
    pub(crate) fn of(&self, connection: u32) -> Vec<u32> {
        let on = |slot: &Option<Flight>| slot.is_some_and(|flight| flight.connection == connection);
        (0..self.slots.len() as u32).filter(|&token| on(&self.slots[token as usize].1)).collect()
    }

    /// Empties it.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Flight> + '_ {
        self.free.clear();
        self.slots.drain(..).filter_map(|(_, flight)| flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(connection: u32) -> Flight {
        Flight { due_ns: 0, connection, class: 0, counted: true }
    }

    #[test]
    fn a_token_that_is_used_again_is_another() {
        let mut flights = Flights::default();
        let first = flights.add(flight(1));
        let generation = flights.generation(first);
        assert_eq!(flights.find(first, generation), Some(flight(1)));
        assert_eq!(flights.take(first), Some(flight(1)));
        assert_eq!((flights.take(first), flights.len()), (None, 0));
        let second = flights.add(flight(2));
        assert_eq!((second, flights.find(first, generation)), (first, None));
        assert_eq!(flights.take(77), None);
    }

    #[test]
    fn a_connections_requests_are_found() {
        let mut flights = Flights::default();
        let tokens: Vec<u32> = [5, 6, 5].into_iter().map(|connection| flights.add(flight(connection))).collect();
        assert_eq!(flights.of(5), [tokens[0], tokens[2]]);
        assert_eq!(flights.drain().count(), 3);
        assert_eq!(flights.len(), 0);
    }
}
