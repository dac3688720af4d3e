//! What an evaluation has at hand: variables, and the meter.

use std::cell::Cell;

use super::FoldNode;
use super::program::{Limits, Program};
use crate::limits::INTERRUPT_EVERY;
use crate::value::{Fault, Outcome, Value};
use crate::work;

/// The values of an environment's variables.
pub trait Activation<'a> {
    /// The value of a variable; `None` when it has none.
    fn resolve(&self, name: &str) -> Option<Outcome<'a>>;
}

impl<'a, F: Fn(&str) -> Option<Outcome<'a>>> Activation<'a> for F {
    fn resolve(&self, name: &str) -> Option<Outcome<'a>> {
        self(name)
    }
}

impl<'a> Activation<'a> for [(&str, Value<'a>)] {
    fn resolve(&self, name: &str) -> Option<Outcome<'a>> {
        self.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| Ok(value.clone()))
    }
}

/// Says whether an evaluation is to stop; asked every hundred turns of a fold.
pub trait Interrupt: Sync {
    /// Whether to stop.
    fn is_set(&self) -> bool;
}

impl Interrupt for std::sync::atomic::AtomicBool {
    fn is_set(&self) -> bool {
        self.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Bytes of texts, lists and maps that an evaluation may make; where costs follow sizes they end it long before.
const MAX_HELD: usize = 64 << 20;

/// A variable of a fold.
#[derive(Debug)]
pub(super) enum Slot<'p, 'a> {
    Empty,
    /// An accumulator that nobody has read yet.
    Unread(&'p FoldNode),
    Set(Outcome<'a>),
}

pub(super) struct Frame<'p, 'a> {
    program: &'p Program,
    activation: &'p dyn Activation<'a>,
    globals: Vec<Option<Outcome<'a>>>,
    pub slots: Vec<Slot<'p, 'a>>,
    pub cost: u64,
    /// Bytes of what was made.
    held: usize,
    limit: u64,
    interrupt: Option<&'p dyn Interrupt>,
    turns: Cell<u32>,
}

impl<'p, 'a> Frame<'p, 'a> {
    /// A frame before evaluation: nothing is spent.
    pub fn new(program: &'p Program, activation: &'p dyn Activation<'a>, limits: &Limits<'p>) -> Frame<'p, 'a> {
        let mut slots = Vec::new();
        slots.resize_with(program.slots, || Slot::Empty);
        Frame {
            program,
            activation,
            globals: vec![None; program.globals.len()],
            slots,
            cost: 0,
            held: 0,
            limit: limits.cost,
            interrupt: limits.interrupt,
            turns: Cell::new(0),
        }
    }

    /// Counts the bytes of what was made.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        self.held = self.held.saturating_add(bytes);
        if self.held > MAX_HELD {
            Err(Fault::CostLimit)
        } else {
            Ok(())
        }
    }

    /// Adds to the cost.
    ///
    /// # Errors
    /// When it comes to more than the limit.
    pub fn charge(&mut self, cost: u64) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(cost);
        self.check()
    }

    /// Stops what has cost too much.
    ///
    /// # Errors
    /// `CostLimit`.
    pub fn check(&self) -> Result<(), Fault> {
        if self.cost > self.limit || work::is_over() {
            return Err(Fault::CostLimit);
        }
        Ok(())
    }

    /// A turn of a fold is over.
    ///
    /// # Errors
    /// When the evaluation is to stop.
    pub fn turn(&self) -> Result<(), Fault> {
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        let look = turns.is_multiple_of(INTERRUPT_EVERY);
        match self.interrupt {
            Some(interrupt) if look && interrupt.is_set() => Err(Fault::Interrupted),
            _ => Ok(()),
        }
    }

    /// The value of a variable of the environment.
    pub fn global(&mut self, at: usize) -> Outcome<'a> {
        if let Some(known) = &self.globals[at] {
            return known.clone();
        }
        let name = &self.program.globals[at];
        let found = match self.activation.resolve(name) {
            Some(outcome) => outcome,
            None => crate::value::error(format!("no such attribute(s): {name}")),
        };
        self.globals[at] = Some(found.clone());
        found
    }

    /// The value of a variable of a fold.
    pub fn local(&mut self, at: usize) -> Outcome<'a> {
        match &self.slots[at] {
            Slot::Set(outcome) => outcome.clone(),
            Slot::Empty => crate::value::error("no such attribute(s)"),
            Slot::Unread(fold) => {
                let fold = *fold;
                let value = super::program::evaluate(&fold.init, self);
                if let Err(fault @ (Fault::CostLimit | Fault::Interrupted)) = value {
                    return Err(fault);
                }
                self.slots[at] = Slot::Set(value.clone());
                value
            }
        }
    }
}
