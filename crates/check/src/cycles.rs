//! Where steps lead round: the strongly connected components of a graph, and ways within one of them.

use std::collections::VecDeque;

use crate::step::Step;

/// A state, by its index among those that are looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Vertex(u32);

impl Vertex {
    pub(crate) fn from_index(index: usize) -> Vertex {
        Vertex(u32::try_from(index).expect("states have numbers of this size"))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A step, and where it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edge {
    pub(crate) step: Step,
    pub(crate) to: Vertex,
}

/// The steps among some states. Vertices are added in order, each with its edges.
pub(crate) struct Graph {
    edges: Vec<Edge>,
    /// Where the edges of each vertex begin; one more, where the last ones end.
    starts: Vec<usize>,
}

impl Graph {
    pub(crate) fn new() -> Graph {
        Graph {
            edges: Vec::new(),
            starts: vec![0],
        }
    }

    /// Adds an edge of the next vertex.
    pub(crate) fn add_edge(&mut self, edge: Edge) {
        self.edges.push(edge);
    }

    /// Adds the next vertex, with the edges that were added since the one before.
    pub(crate) fn add_vertex(&mut self) {
        self.starts.push(self.edges.len());
    }

    pub(crate) fn vertices(&self) -> impl Iterator<Item = Vertex> + use<> {
        (0..self.len()).map(Vertex::from_index)
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn edges_of(&self, vertex: Vertex) -> &[Edge] {
        let [start, end] = [0, 1].map(|after| self.starts[vertex.index() + after]);
        &self.edges[start..end]
    }

    /// Returns the memory held, in bytes; with that of [`Components`], which come after.
    pub(crate) fn memory_bytes(&self) -> usize {
        let starts = self.starts.capacity() * size_of::<usize>();
        self.edges.capacity() * size_of::<Edge>() + starts + self.len() * BYTES_OF_VERTEX
    }
}

/// What there is besides for each vertex: the state's number; two more, a region, and a place on two stacks while
/// components are searched for.
const BYTES_OF_VERTEX: usize = 4 * size_of::<u32>() + 2 * size_of::<(u32, usize)>();

/// Finds components of parts of a graph. Vertices of one part have one region.
pub(crate) struct Components<'g> {
    graph: &'g Graph,
    region: Vec<u32>,
    regions: u32,
    /// When a vertex was come to, from 1 on; 0 before.
    found: Vec<u32>,
    /// The first vertex on the stack that it leads to.
    low: Vec<u32>,
}

impl<'g> Components<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Components<'g> {
        Components {
            graph,
            region: vec![0; graph.len()],
            regions: 0,
            found: vec![0; graph.len()],
            low: vec![0; graph.len()],
        }
    }

    /// Finds the components among some vertices that a step lies in, by Tarjan's algorithm. Each has a region of its
    /// own afterwards.
    pub(crate) fn among(&mut self, members: &[Vertex]) -> Vec<Vec<Vertex>> {
        self.separate(members);
        for &member in members {
            self.found[member.index()] = 0;
        }
        let mut all = Vec::new();
        let mut search = Search::default();
        for &member in members {
            if self.found[member.index()] == 0 {
                self.search_from(member, &mut search, &mut all);
            }
        }
        all
    }

    /// Gives some vertices a region of their own.
    pub(crate) fn separate(&mut self, members: &[Vertex]) {
        self.regions += 1;
        for member in members {
            self.region[member.index()] = self.regions;
        }
    }

    /// Returns the edges from a vertex to others of its region.
    pub(crate) fn edges_within(&self, from: Vertex) -> impl Iterator<Item = Edge> {
        let edges = self.graph.edges_of(from).iter().copied();
        edges.filter(move |edge| self.region[edge.to.index()] == self.region[from.index()])
    }

    fn search_from(&mut self, root: Vertex, search: &mut Search, all: &mut Vec<Vec<Vertex>>) {
        let region = self.region[root.index()];
        self.enter(root, search);
        while let Some(&mut (from, ref mut next)) = search.under_way.last_mut() {
            if let Some(&Edge { to, .. }) = self.graph.edges_of(from).get(*next) {
                *next += 1;
                // Whoever has left the stack has another region.
                if self.region[to.index()] != region {
                    continue;
                }
                match self.found[to.index()] {
                    0 => self.enter(to, search),
                    found => self.low[from.index()] = self.low[from.index()].min(found),
                }
                continue;
            }
            search.under_way.pop();
            let low = self.low[from.index()];
            if let Some(&(before, _)) = search.under_way.last() {
                self.low[before.index()] = self.low[before.index()].min(low);
            }
            if low == self.found[from.index()] {
                let first = search.stack.iter().rposition(|&vertex| vertex == from);
                let component = search.stack.split_off(first.expect("it was put there"));
                self.separate(&component);
                if self.edges_within(from).next().is_some() {
                    all.push(component);
                }
            }
        }
    }

    fn enter(&mut self, vertex: Vertex, search: &mut Search) {
        search.count += 1;
        self.found[vertex.index()] = search.count;
        self.low[vertex.index()] = search.count;
        search.stack.push(vertex);
        search.under_way.push((vertex, 0));
    }

    /// Returns a shortest way from a vertex within its region, of one step at least, whose last step is one that is
    /// asked for: by where it begins, and the edge.
    pub(crate) fn way(
        &self,
        from: Vertex,
        mut is_goal: impl FnMut(Vertex, Edge) -> bool,
    ) -> Option<Vec<Edge>> {
        let mut reached = vec![(from, None)];
        let mut seen = std::collections::BTreeSet::from([from]);
        let mut waiting = VecDeque::from([0]);
        while let Some(index) = waiting.pop_front() {
            let (vertex, _) = reached[index];
            for edge in self.edges_within(vertex) {
                if is_goal(vertex, edge) {
                    let mut way = vec![edge];
                    let mut at = index;
                    while let (_, Some((before, edge))) = reached[at] {
                        way.push(edge);
                        at = before;
                    }
                    way.reverse();
                    return Some(way);
                }
                if seen.insert(edge.to) {
                    waiting.push_back(reached.len());
                    reached.push((edge.to, Some((index, edge))));
                }
            }
        }
        None
    }
}

/// A search under way.
#[derive(Default)]
struct Search {
    count: u32,
    /// Vertices of components that are not complete.
    stack: Vec<Vertex>,
    /// The way to the vertex that is looked at, each with how many of its edges are done with.
    under_way: Vec<(Vertex, usize)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Way;
    use crate::step::Action;
    use lazytlb::CpuId;

    fn graph(edges: &[&[usize]]) -> Graph {
        let step = Step {
            cpu: CpuId(0),
            action: Action::Call,
            way: Way::FIRST,
        };
        let mut graph = Graph::new();
        for targets in edges {
            for &to in *targets {
                let to = Vertex::from_index(to);
                graph.add_edge(Edge { step, to });
            }
            graph.add_vertex();
        }
        graph
    }

    fn among(components: &mut Components<'_>, members: &[usize]) -> Vec<Vec<usize>> {
        let members: Vec<_> = members.iter().copied().map(Vertex::from_index).collect();
        let found = components.among(&members).into_iter();
        let sorted = found.map(|component| {
            let mut component: Vec<_> = component.into_iter().map(Vertex::index).collect();
            component.sort_unstable();
            component
        });
        let mut found: Vec<_> = sorted.collect();
        found.sort();
        found
    }

    #[test]
    fn components_are_found_with_a_step_inside_and_within_what_is_asked_for() {
        // 0 leads to the circle 1, 2, 3 with a shortcut; 4 goes round alone; 5 does not.
        let graph = graph(&[&[1, 5], &[2], &[3, 1], &[1, 4], &[4, 5], &[]]);
        let mut components = Components::new(&graph);
        assert_eq!(
            among(&mut components, &[0, 1, 2, 3, 4, 5]),
            [vec![1, 2, 3], vec![4]]
        );
        assert_eq!(among(&mut components, &[1, 2, 5]), [vec![1, 2]]);
        assert_eq!(among(&mut components, &[1, 3]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_way_stays_in_its_region_and_takes_a_step_at_least() {
        let graph = graph(&[&[1, 2], &[2], &[3], &[0]]);
        let mut components = Components::new(&graph);
        let all: Vec<_> = graph.vertices().collect();
        components.separate(&all);
        let back = |_, edge: Edge| edge.to.index() == 0;
        assert_eq!(components.way(all[0], back).unwrap().len(), 3);
        components.separate(&[all[0], all[1], all[3]]);
        assert_eq!(components.way(all[0], back), None);
    }

    #[test]
    fn every_pair_that_lead_to_each_other_share_a_component_in_random_graphs() {
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..300 {
            let len = 1 + random(8);
            let edges: Vec<Vec<usize>> = (0..len)
                .map(|_| (0..random(3)).map(|_| random(len)).collect())
                .collect();
            let mut leads = vec![vec![false; len]; len];
            for (from, to) in edges.iter().enumerate() {
                to.iter().for_each(|&to| leads[from][to] = true);
            }
            for by in 0..len {
                for from in 0..len {
                    for to in 0..len {
                        leads[from][to] |= leads[from][by] && leads[by][to];
                    }
                }
            }
            let slices: Vec<&[usize]> = edges.iter().map(Vec::as_slice).collect();
            let graph = graph(&slices);
            let all: Vec<usize> = (0..len).collect();
            let found = among(&mut Components::new(&graph), &all);
            let pairs = (0..len).flat_map(|one| (0..len).map(move |other| (one, other)));
            for (one, other) in pairs {
                let expected = leads[one][other] && leads[other][one];
                let in_one = |part: &Vec<usize>| part.contains(&one) && part.contains(&other);
                assert_eq!(found.iter().any(in_one), expected, "{edges:?}");
            }
        }
    }
}
