/* Frames, page tables and what each CPU may cache: the adversarial machine, by hand.
 *
 * The pool has frames 2 and 3, as sets with the bits 2 and 4. An entry of a table of one points to
 * the other: no frame holds itself, so a leaf is named by the table that it was reached through. */

#define INIT_MM 0
#define USER 1
#define ONE_PAGE 1

#define CPU0 1
#define CPU1 2
#define CPU2 4
#define ME (1 << _pid)

#define POOL 6
#define LOADED_USER 1
#define LEAVES 24	/* POOL << 2 */
#define TAINTS 96	/* LEAVES << 2 */

unsigned tables : 3;		/* frames that are live page tables */
unsigned pages : 3;		/* frames that are live pages */
unsigned root_entry : 3;	/* the table that the user root's entry points to, if present */
unsigned filled : 3;		/* the tables whose entry is present */

/* Per CPU: bit 0, CR3 holds the user root; bits 1-2, cached root entries by the table that they point
 * to; bits 3-4, cached leaf entries by the table that they were reached through; bits 5-6, the taints
 * of these leaves. */
byte cache[3];

/* Not part of a state: they are set and asserted within one step, and name the property in the error. */
hidden byte table_use_after_free;
hidden byte stale_use;
hidden byte waiting_initiator;
hidden byte one;

/* What a speculative walk could now produce is added. */
inline close(cpu) {
	cache[cpu] = cache[cpu] | ((cache[cpu] & LOADED_USER) * root_entry);
	cache[cpu] = cache[cpu] | ((cache[cpu] & filled) << 2)
}

/* A walk may start at a cached table. What is reachable from a loaded root is cached: see close. */
inline check_walks() {
	table_use_after_free = ((cache[0] | cache[1] | cache[2]) & POOL & ~tables) != 0;
	assert(!table_use_after_free)
}

inline close_all() {
	close(0); close(1); close(2);
	check_walks()
}

/* The lowest free frame; a table's entry comes absent. */
inline lowest_free() {
	one = POOL & ~(tables | pages);
	one = one & (8 - one);
	assert(one);
	filled = filled & ~one
}

inline alloc_page() { lowest_free(); pages = pages | one }
inline alloc_table() { lowest_free(); tables = tables | one }
inline map_page() { filled = tables; close_all() }
inline map_table() { root_entry = tables; close_all() }
inline unmap_page() { filled = 0; close_all() }
inline unmap_table() { root_entry = 0; close_all() }

inline taint(cpu, leaves) { cache[cpu] = cache[cpu] | ((cache[cpu] & (leaves)) << 2) }

/* A flush has returned: what is no longer mapped must be out of use. */
inline flush_returned() {
	one = LEAVES & ~((root_entry & filled) << 2);
	taint(0, one); taint(1, one); taint(2, one)
}

inline free_page() {
	one = (POOL & ~pages) << 2;
	taint(0, one); taint(1, one); taint(2, one);
	pages = 0
}

inline free_table() {
	filled = filled & ~tables;
	tables = 0;
	check_walks()
}

inline load_cr3(mm) { cache[_pid] = mm; close(_pid); check_walks() }
inline invlpg() { cache[_pid] = cache[_pid] & LOADED_USER; close(_pid); check_walks() }

inline touch() {
	stale_use = (cache[_pid] & TAINTS) != 0;
	assert(!stale_use)
}
