//! Control-flow lint: every invocation that takes part in a barrier or a subgroup operation must reach it.
//!
//! naga's own uniformity check does not follow local variables, loops and early returns far enough for kernels that broadcast inside loops. This
//! one walks the statement tree of the entry point and of what it calls, in the manner of WGSL's uniformity analysis (section 15.2 of the
//! specification), coarser in three ways that can only refuse more: a local variable has one state for the whole function and its fields and
//! elements share it; writable memory is never uniform; a subgroup operation is refused unless its whole subgroup arrives.

mod samples;

use naga::{
    AddressSpace, Barrier, Binding, Block, BuiltIn, CollectiveOperation, Expression, Function, GatherMode, Handle, LocalVariable, Module,
};
use naga::{Span, Statement, StorageAccess, TypeInner};
use std::collections::{BTreeMap, HashMap};

/// Which invocations of a workgroup may disagree: about a value, or about being at a place in the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Divergence {
    /// None: all agree.
    #[default]
    None,
    /// Those of different subgroups; the lanes of each agree.
    Subgroups,
    /// Any two.
    Lanes,
}

/// Who is here, and the statement since when.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    divergence: Divergence,
    since: Span,
}

impl Flow {
    fn join(self, other: Flow) -> Flow {
        if other.divergence > self.divergence { other } else { self }
    }
}

/// Under which flow invocations may have left a block by each kind of jump.
#[derive(Debug, Clone, Copy, Default)]
struct Exits {
    returns: Flow,
    breaks: Flow,
    continues: Flow,
}

impl Exits {
    fn join(self, other: Exits) -> Exits {
        Exits {
            returns: self.returns.join(other.returns),
            breaks: self.breaks.join(other.breaks),
            continues: self.continues.join(other.continues),
        }
    }

    /// Who is left behind the block, having entered it as `flow`.
    fn rest(self, flow: Flow) -> Flow {
        flow.join(self.returns).join(self.breaks).join(self.continues)
    }
}

/// An operation that not all of its invocations reach.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The operation.
    pub what: &'static str,
    /// Where it is, as a byte offset into the text.
    pub at: usize,
    /// The statement that parted the invocations.
    pub since: usize,
}

/// Every fault of the module's first entry point, in the order of the text.
pub fn check(module: &Module) -> Vec<Fault> {
    let function = &module.entry_points[0].function;
    let arguments: Vec<Divergence> = function
        .arguments
        .iter()
        .map(|argument| match (&argument.binding, &module.types[argument.ty].inner) {
            (Some(binding), _) => of_builtin(binding),
            (None, TypeInner::Struct { members, .. }) => {
                members.iter().map(|m| m.binding.as_ref().map_or(Divergence::Lanes, of_builtin)).max().unwrap_or_default()
            }
            _ => Divergence::Lanes,
        })
        .collect();
    let mut faults = BTreeMap::new();
    call(module, &mut faults, function, &arguments, Flow::default());
    faults.into_values().collect()
}

fn of_builtin(binding: &Binding) -> Divergence {
    match binding {
        Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups | BuiltIn::WorkGroupSize) => Divergence::None,
        Binding::BuiltIn(BuiltIn::NumSubgroups | BuiltIn::SubgroupSize) => Divergence::None,
        Binding::BuiltIn(BuiltIn::SubgroupId) => Divergence::Subgroups,
        _ => Divergence::Lanes,
    }
}

/// Walks a function until nothing changes; returns the divergence of its result.
fn call(module: &Module, faults: &mut BTreeMap<usize, Fault>, function: &Function, arguments: &[Divergence], flow: Flow) -> Divergence {
    let mut walk = Walk {
        module,
        function,
        arguments,
        faults,
        values: HashMap::new(),
        locals: HashMap::new(),
        result: Divergence::None,
        changed: true,
    };
    while walk.changed {
        walk.changed = false;
        walk.block(&function.body, flow);
    }
    walk.result
}

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    arguments: &'a [Divergence],
    faults: &'a mut BTreeMap<usize, Fault>,
    /// Emitted expressions and results of statements; a pointer diverges if its address does.
    values: HashMap<Handle<Expression>, Divergence>,
    /// What each local variable ever holds.
    locals: HashMap<Handle<LocalVariable>, Divergence>,
    result: Divergence,
    /// Something went up in this pass, so that another is needed. Nothing ever goes down, so that there is a last one.
    changed: bool,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block, entry: Flow) -> Exits {
        let mut exits = Exits::default();
        for (statement, &span) in block.span_iter() {
            exits = exits.join(self.statement(statement, span, exits.rest(entry)));
        }
        exits
    }

    fn statement(&mut self, statement: &Statement, span: Span, flow: Flow) -> Exits {
        let mut exits = Exits::default();
        match *statement {
            Statement::Emit(ref range) => {
                for handle in range.clone() {
                    self.cooperate(handle, span, flow);
                    self.set(handle, self.evaluate(handle));
                }
            }
            Statement::Block(ref block) => exits = self.block(block, flow),
            Statement::If { condition, ref accept, ref reject } => {
                let inside = flow.join(Flow { divergence: self.value(condition), since: span });
                exits = self.block(accept, inside).join(self.block(reject, inside));
            }
            Statement::Switch { selector, ref cases } => {
                let mut inside = flow.join(Flow { divergence: self.value(selector), since: span });
                for case in cases {
                    let left = self.block(&case.body, inside);
                    if case.fall_through {
                        inside = left.rest(inside);
                    }
                    exits = exits.join(left);
                }
                // Who breaks out of a switch goes on behind it.
                exits.breaks = Flow::default();
            }
            Statement::Loop { ref body, ref continuing, break_if } => exits.returns = self.repeat(body, continuing, break_if, span, flow),
            Statement::Break => exits.breaks = flow,
            Statement::Continue => exits.continues = flow,
            Statement::Return { value } => {
                let value = value.map_or(Divergence::None, |v| self.value(v)).max(flow.divergence);
                self.changed |= value > self.result;
                self.result = self.result.max(value);
                exits.returns = flow;
            }
            Statement::Store { pointer, value } => {
                let stored = self.value(value).max(self.value(pointer)).max(flow.divergence);
                self.store(pointer, stored);
            }
            Statement::Atomic { result, .. } => {
                if let Some(result) = result {
                    self.set(result, Divergence::Lanes);
                }
            }
            Statement::Call { function, ref arguments, result } => {
                let given: Vec<Divergence> = arguments.iter().map(|a| self.value(*a)).collect();
                // A variable that is lent to a function may come back with anything in it.
                arguments.iter().for_each(|a| self.store(*a, Divergence::Lanes));
                let returned = call(self.module, self.faults, &self.module.functions[function], &given, flow);
                if let Some(result) = result {
                    self.set(result, returned);
                }
            }
            Statement::ControlBarrier(Barrier::SUB_GROUP) => self.require(Divergence::Subgroups, "subgroupBarrier", span, flow),
            Statement::ControlBarrier(_) => self.require(Divergence::None, "a workgroup barrier", span, flow),
            Statement::WorkGroupUniformLoad { result, .. } => {
                self.require(Divergence::None, "workgroupUniformLoad", span, flow);
                self.set(result, Divergence::None);
            }
            Statement::SubgroupBallot { result, .. } => {
                self.require(Divergence::Subgroups, "subgroupBallot", span, flow);
                self.set(result, Divergence::Subgroups);
            }
            Statement::SubgroupCollectiveOperation { collective_op, result, .. } => {
                self.require(Divergence::Subgroups, "a subgroup reduction or scan", span, flow);
                let scan = collective_op != CollectiveOperation::Reduce;
                self.set(result, if scan { Divergence::Lanes } else { Divergence::Subgroups });
            }
            Statement::SubgroupGather { mode, argument, result } => {
                self.require(Divergence::Subgroups, "a subgroup broadcast or shuffle", span, flow);
                // naga has checked that the lane of a broadcast is a constant.
                let one_lane = matches!(mode, GatherMode::BroadcastFirst | GatherMode::Broadcast(_));
                let gathered = self.value(argument).min(Divergence::Subgroups);
                self.set(result, if one_lane { gathered } else { Divergence::Lanes });
            }
            Statement::CooperativeStore { target, ref data } => {
                self.require(Divergence::Subgroups, "coopStore", span, flow);
                self.require_shared(&[target, data.pointer, data.stride], "coopStore of what lanes disagree about", span);
            }
            Statement::MemoryBarrier(_) | Statement::ImageStore { .. } => {}
            _ => {
                let anyone = Flow { divergence: Divergence::Lanes, since: span };
                self.require(Divergence::None, "a statement that tests/lint/mod.rs does not know yet", span, anyone);
            }
        }
        exits
    }

    /// A loop; returns under which flow its invocations return from the function.
    ///
    /// Who breaks or returns is missing in the iterations that follow; who continues is back before the continuing block.
    fn repeat(&mut self, body: &Block, continuing: &Block, break_if: Option<Handle<Expression>>, span: Span, entry: Flow) -> Flow {
        let mut inside = entry;
        loop {
            let mut exits = self.block(body, inside);
            exits.continues = Flow::default();
            let tail = exits.rest(inside);
            exits = exits.join(self.block(continuing, tail));
            if let Some(condition) = break_if {
                exits.breaks = exits.breaks.join(tail).join(Flow { divergence: self.value(condition), since: span });
            }
            let again = exits.rest(inside);
            if again.divergence == inside.divergence {
                return exits.returns;
            }
            inside = again;
        }
    }

    /// Refuses an operation that is reached by invocations more divergent than it bears.
    fn require(&mut self, most: Divergence, what: &'static str, span: Span, flow: Flow) {
        if flow.divergence > most {
            let start = |span: Span| span.to_range().map_or(0, |range| range.start);
            self.faults.entry(start(span)).or_insert(Fault { what, at: start(span), since: start(flow.since) });
        }
    }

    /// Loads and products of cooperative matrices are expressions, but need their subgroup as statements do.
    fn cooperate(&mut self, handle: Handle<Expression>, span: Span, flow: Flow) {
        match self.function.expressions[handle] {
            Expression::CooperativeLoad { ref data, .. } => {
                self.require(Divergence::Subgroups, "coopLoad", span, flow);
                self.require_shared(&[data.pointer, data.stride], "coopLoad from where lanes disagree about", span);
            }
            Expression::CooperativeMultiplyAdd { .. } => self.require(Divergence::Subgroups, "coopMultiplyAdd", span, flow),
            _ => {}
        }
    }

    /// Refuses operands that lanes of a subgroup may disagree about.
    fn require_shared(&mut self, operands: &[Handle<Expression>], what: &'static str, span: Span) {
        let divergence = operands.iter().map(|o| self.value(*o)).max().unwrap_or_default();
        self.require(Divergence::Subgroups, what, span, Flow { divergence, since: span });
    }

    fn set(&mut self, handle: Handle<Expression>, divergence: Divergence) {
        let value = self.values.entry(handle).or_default();
        self.changed |= divergence > *value;
        *value = divergence.max(*value);
    }

    fn store(&mut self, pointer: Handle<Expression>, divergence: Divergence) {
        if let Expression::LocalVariable(local) = self.function.expressions[self.root(pointer)] {
            let value = self.locals.entry(local).or_default();
            self.changed |= divergence > *value;
            *value = divergence.max(*value);
        }
    }

    /// What a chain of accesses starts from.
    fn root(&self, mut handle: Handle<Expression>) -> Handle<Expression> {
        while let Expression::Access { base, .. } | Expression::AccessIndex { base, .. } = self.function.expressions[handle] {
            handle = base;
        }
        handle
    }

    fn value(&self, handle: Handle<Expression>) -> Divergence {
        match self.function.expressions[handle] {
            Expression::FunctionArgument(index) => self.arguments[index as usize],
            ref constant_or_variable if constant_or_variable.needs_pre_emit() => Divergence::None,
            // Every other expression is emitted, or is the result of a statement, before it is used.
            _ => self.values.get(&handle).copied().unwrap_or(Divergence::Lanes),
        }
    }

    fn evaluate(&self, handle: Handle<Expression>) -> Divergence {
        let of = |operands: &[Handle<Expression>]| operands.iter().map(|o| self.value(*o)).max().unwrap_or_default();
        match self.function.expressions[handle] {
            Expression::Compose { ref components, .. } => of(components),
            Expression::Access { base, index } => of(&[base, index]),
            Expression::Splat { value: one, .. }
            | Expression::AccessIndex { base: one, .. }
            | Expression::Swizzle { vector: one, .. }
            | Expression::Unary { expr: one, .. }
            | Expression::Relational { argument: one, .. }
            | Expression::As { expr: one, .. } => self.value(one),
            Expression::Binary { left, right, .. } => of(&[left, right]),
            Expression::Select { condition, accept, reject } => of(&[condition, accept, reject]),
            Expression::Math { arg, arg1, arg2, arg3, .. } => of(&[arg, arg1.unwrap_or(arg), arg2.unwrap_or(arg), arg3.unwrap_or(arg)]),
            Expression::Load { pointer } => self.value(pointer).max(self.memory(pointer)),
            Expression::ArrayLength(_) => Divergence::None,
            // One matrix, whose parts the lanes hold.
            Expression::CooperativeLoad { .. } | Expression::CooperativeMultiplyAdd { .. } => Divergence::Subgroups,
            _ => Divergence::Lanes,
        }
    }

    /// Divergence of what lies behind a pointer, if its address is the same for all.
    fn memory(&self, pointer: Handle<Expression>) -> Divergence {
        match self.function.expressions[self.root(pointer)] {
            Expression::LocalVariable(local) => self.locals.get(&local).copied().unwrap_or_default(),
            Expression::GlobalVariable(global) => match self.module.global_variables[global].space {
                AddressSpace::Uniform => Divergence::None,
                AddressSpace::Storage { access } if access == StorageAccess::LOAD => Divergence::None,
                // Another invocation may be writing there.
                _ => Divergence::Lanes,
            },
            _ => Divergence::Lanes,
        }
    }
}
