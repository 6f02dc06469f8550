/* SPDX-License-Identifier: MIT */
/* The neutral configuration tree: its image, the check of a received image, and its builder. The loader builds, workers and the
 * controller open. Typed reading is in config_value.c.
 *
 * An image is a head, all nodes in document order (a node, its subtree, its next sibling), then all texts in the same order
 * (key, then text), with no gap and nothing left over. So every tree has exactly one image, and one pass without memory of its
 * own proves that a received one is a tree: each node is reached once, each byte is used once, nothing points backwards. */
#include "common/config_tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/memfd.h"
#include "common/strutil.h"

enum { IMAGE_VERSION = 1 };
static const char image_magic[8] = { 's', 'l', 'u', 'i', 'c', 'e', 'c', 'f' };

struct image_head {
	char magic[8];
	uint32_t version;
	uint32_t nodes;
	uint64_t size;			/* of the whole image */
};

#define NONE UINT32_MAX

/* ---- verifying */

struct frame {				/* an open list or map */
	uint32_t left;			/* children still to come */
	uint32_t expect;		/* where the last child's next points to */
	bool keyed;
};

struct verify {
	const struct cfg_node *nodes;
	uint32_t count;
	const char *at, *end;		/* texts not claimed yet */
	unsigned depth;
	struct frame stack[CFG_DEPTH_MAX];
};

/* The node that an offset field points to; NONE when it is none. */
static uint32_t
node_at(const struct verify *v, const int32_t *field)
{
	int64_t off = (const char *)field - (const char *)v->nodes + (int64_t)*field;

	if (off < 0 || off % (int64_t)sizeof(struct cfg_node) != 0)
		return NONE;
	off /= (int64_t)sizeof(struct cfg_node);
	return off < (int64_t)v->count ? (uint32_t)off : NONE;
}

/* Claims the next len bytes and their NUL for the text that field points to. */
static bool
claim_text(struct verify *v, const int32_t *field, size_t len)
{
	const char *p = v->at;

	if (p - (const char *)field != (ptrdiff_t)*field || len >= (size_t)(v->end - p))
		return false;
	if (p[len] != '\0' || memchr(p, '\0', len) != NULL || !utf8_valid(p, len))
		return false;
	v->at = p + len + 1;
	return true;
}

static const char *
check_texts(struct verify *v, const struct cfg_node *n, bool keyed)
{
	if (n->type > CFG_MAP || (n->flags & ~(CFG_QUOTED | CFG_ALIASED)) != 0 || n->reserved != 0)
		return "unknown node type";
	if (keyed != (n->key != 0))
		return "key out of place";
	if (keyed && !claim_text(v, &n->key, strnlen(v->at, (size_t)(v->end - v->at))))
		return "bad key";
	if (n->type != CFG_SCALAR && (n->text != 0 || n->text_len != 0))
		return "text out of place";
	if (n->type == CFG_SCALAR && !claim_text(v, &n->text, n->text_len))
		return "bad text";
	return NULL;
}

/* Node i as child of the innermost open frame. */
static const char *
check_place(struct verify *v, uint32_t i)
{
	const struct cfg_node *n = &v->nodes[i];
	struct frame *f;

	if (i == 0)
		return n->next != 0 ? "root has a sibling" : NULL;
	if (v->depth == 0)
		return "node outside the tree";
	f = &v->stack[v->depth - 1];
	if (f->expect != i)
		return "node out of order";
	f->left--;
	if ((f->left == 0) != (n->next == 0))
		return "wrong number of children";
	f->expect = n->next != 0 ? node_at(v, &n->next) : NONE;
	if (n->next != 0 && (f->expect == NONE || f->expect <= i))
		return "bad sibling";
	return NULL;
}

static const char *
check_node(struct verify *v, uint32_t i)
{
	const struct cfg_node *n = &v->nodes[i];
	const char *why;

	why = check_texts(v, n, v->depth > 0 && v->stack[v->depth - 1].keyed);
	if (why == NULL)
		why = check_place(v, i);
	if (why != NULL)
		return why;
	if ((n->count != 0) != (n->child != 0) || (n->count != 0 && n->type != CFG_LIST && n->type != CFG_MAP))
		return "children out of place";
	if (n->count != 0) {
		if (node_at(v, &n->child) != i + 1)
			return "bad child";
		if (v->depth + 1 >= CFG_DEPTH_MAX)
			return "too deep";
		v->stack[v->depth++] = (struct frame){ n->count, i + 1, n->type == CFG_MAP };
	}
	while (v->depth > 0 && v->stack[v->depth - 1].left == 0)
		v->depth--;
	return NULL;
}

static const char *
check_image(const void *p, size_t n)
{
	struct image_head head;
	struct verify v = { 0 };

	if (n < sizeof head + sizeof(struct cfg_node) || n > CFG_BYTES_MAX || (uintptr_t)p % _Alignof(struct image_head) != 0)
		return "bad size";
	memcpy(&head, p, sizeof head);
	if (memcmp(head.magic, image_magic, sizeof image_magic) != 0 || head.version != IMAGE_VERSION)
		return "not a configuration tree of this version";
	if (head.size != n || head.nodes == 0 || head.nodes > CFG_NODES_MAX)
		return "bad size";
	if (head.nodes > (n - sizeof head) / sizeof(struct cfg_node))
		return "bad size";
	v.nodes = (const void *)((const char *)p + sizeof head);
	v.count = head.nodes;
	v.at = (const char *)&v.nodes[v.count];
	v.end = (const char *)p + n;
	for (uint32_t i = 0; i < v.count; i++) {
		const char *why = check_node(&v, i);

		if (why != NULL)
			return why;
	}
	return v.depth != 0 || v.at != v.end ? "wrong number of nodes" : NULL;
}

int
tree_from_memory(struct tree *t, const void *p, size_t n, struct cfg_err *err)
{
	const char *why = p != NULL ? check_image(p, n) : "bad size";

	if (why != NULL) {
		(void)cfg_fail(err, NULL, NULL, "configuration tree refused: %s", why);
		return -E_PROTO;
	}
	t->base = NULL;		/* nothing to unmap */
	t->size = n;
	t->root = (const void *)((const char *)p + sizeof(struct image_head));
	return 0;
}

int
tree_open(struct tree *t, int fd, struct cfg_err *err)
{
	const void *p;
	size_t n;
	int rc = memfd_map(fd, &p, &n, CFG_BYTES_MAX);

	if (rc != 0) {
		(void)cfg_fail(err, NULL, NULL, "configuration tree refused: not a sealed memory file");
		return -E_PROTO;
	}
	rc = tree_from_memory(t, p, n, err);
	if (rc == 0)
		t->base = p;
	else if (p != NULL)
		(void)munmap((void *)(uintptr_t)p, n);
	return rc;
}

void
tree_close(struct tree *t)
{
	if (t->base != NULL)
		(void)munmap((void *)(uintptr_t)t->base, t->size);
	*t = (struct tree){ 0 };
}

/* ---- building */

struct item {
	uint8_t type, flags;
	uint16_t depth;			/* root 1 */
	uint32_t line, column;
	uint32_t key, text, text_len;	/* offsets into texts; NONE */
	uint32_t parent, first, next, count;
	uint32_t last;			/* while adding: the last child; while writing: the place of the last child written */
};

struct tree_builder {
	struct item *items;		/* at most CFG_NODES_MAX */
	uint32_t count, room;
	char *texts;			/* at most CFG_BYTES_MAX with the nodes */
	size_t used, cap;
};

struct tree_builder *
tree_build(void)
{
	return calloc(1, sizeof(struct tree_builder));
}

void
tree_abandon(struct tree_builder *b)
{
	if (b == NULL)
		return;
	free(b->items);
	free(b->texts);
	free(b);
}

static size_t
image_size(uint32_t nodes, size_t texts)
{
	return sizeof(struct image_head) + nodes * sizeof(struct cfg_node) + texts;
}

static int
make_room(struct tree_builder *b, size_t bytes)
{
	if (b->count >= CFG_NODES_MAX || bytes > CFG_BYTES_MAX || image_size(b->count + 1, b->used + bytes) > CFG_BYTES_MAX)
		return -E_LIMIT;
	if (b->count == b->room) {
		uint32_t room = b->room != 0 ? b->room * 2 : 256;
		struct item *p = reallocarray(b->items, room, sizeof *p);

		if (p == NULL)
			return -E_NOMEM;
		b->items = p;
		b->room = room;
	}
	if (b->cap - b->used < bytes) {
		size_t cap = (b->cap + bytes) * 2;
		char *p = realloc(b->texts, cap);

		if (p == NULL)
			return -E_NOMEM;
		b->texts = p;
		b->cap = cap;
	}
	return 0;
}

static uint32_t
keep_text(struct tree_builder *b, const char *p, size_t len)
{
	size_t at = b->used;

	memcpy(b->texts + at, p, len);
	b->texts[at + len] = '\0';
	b->used += len + 1;
	return (uint32_t)at;
}

/* 0 when such a node may stand under parent. */
static int
check_parent(const struct tree_builder *b, int64_t parent, const char *key)
{
	if (parent == -1)
		return b->count == 0 && key == NULL ? 0 : -E_INVAL;
	if (parent < 0 || parent >= (int64_t)b->count)
		return -E_INVAL;
	if (b->items[parent].type != CFG_LIST && b->items[parent].type != CFG_MAP)
		return -E_INVAL;
	if ((b->items[parent].type == CFG_MAP) != (key != NULL))
		return -E_INVAL;
	return b->items[parent].depth < CFG_DEPTH_MAX ? 0 : -E_LIMIT;
}

static void
link_item(struct tree_builder *b, uint32_t at, int64_t parent)
{
	struct item *up;

	if (parent == -1)
		return;
	up = &b->items[parent];
	b->items[at].parent = (uint32_t)parent;
	b->items[at].depth = (uint16_t)(up->depth + 1);
	if (up->last == NONE)
		up->first = at;
	else
		b->items[up->last].next = at;
	up->last = at;
	up->count++;
}

int64_t
tree_add(struct tree_builder *b, int64_t parent, enum cfg_type type, unsigned flags, const char *key, const char *text,
    size_t len, unsigned line, unsigned column)
{
	size_t key_len = key != NULL ? strlen(key) : 0;
	struct item *it;
	int rc;

	if (type != CFG_SCALAR)
		len = 0;
	rc = check_parent(b, parent, key);
	if (rc != 0)
		return rc;
	if (key_len > CFG_BYTES_MAX || len > CFG_BYTES_MAX)
		return -E_LIMIT;
	if (key != NULL && !utf8_valid(key, key_len))
		return -E_INVAL;
	if (len != 0 && (memchr(text, '\0', len) != NULL || !utf8_valid(text, len)))
		return -E_INVAL;
	rc = make_room(b, (key != NULL ? key_len + 1 : 0) + (type == CFG_SCALAR ? len + 1 : 0));
	if (rc != 0)
		return rc;
	it = &b->items[b->count];
	*it = (struct item){ .type = (uint8_t)type, .flags = (uint8_t)(flags & (CFG_QUOTED | CFG_ALIASED)), .depth = 1,
		.line = line, .column = column, .key = NONE, .text = NONE, .parent = NONE, .first = NONE, .next = NONE,
		.last = NONE };
	if (key != NULL)
		it->key = keep_text(b, key, key_len);
	if (type == CFG_SCALAR) {
		it->text = keep_text(b, len != 0 ? text : "", len);
		it->text_len = (uint32_t)len;
	}
	link_item(b, b->count, parent);
	return b->count++;
}

/* Offset from a field at address from to address to; both lie in one image of at most CFG_BYTES_MAX bytes. */
static int32_t
offset(const void *from, const void *to)
{
	return (int32_t)((const char *)to - (const char *)from);
}

struct writer {
	struct cfg_node *nodes;
	uint32_t pos;
	char *at;			/* where the next text goes */
};

static int32_t
write_text(struct writer *w, const int32_t *field, const char *p, size_t len)
{
	int32_t off = offset(field, w->at);

	memcpy(w->at, p, len + 1);
	w->at += len + 1;
	return off;
}

static void
write_item(struct tree_builder *b, struct writer *w, uint32_t i)
{
	struct item *it = &b->items[i];
	struct cfg_node *n = &w->nodes[w->pos];

	*n = (struct cfg_node){ .type = it->type, .flags = it->flags, .line = it->line, .column = it->column,
		.text_len = it->text_len, .count = it->count };
	if (it->key != NONE)
		n->key = write_text(w, &n->key, b->texts + it->key, strlen(b->texts + it->key));
	if (it->text != NONE)
		n->text = write_text(w, &n->text, b->texts + it->text, it->text_len);
	if (it->first != NONE)
		n->child = offset(&n->child, n + 1);
	it->last = NONE;
	if (it->parent != NONE) {
		struct item *up = &b->items[it->parent];

		if (up->last != NONE)
			w->nodes[up->last].next = offset(&w->nodes[up->last].next, n);
		up->last = w->pos;
	}
	w->pos++;
}

/* The item after i in document order; NONE at the end. */
static uint32_t
following(const struct tree_builder *b, uint32_t i)
{
	if (b->items[i].first != NONE)
		return b->items[i].first;
	while (i != NONE && b->items[i].next == NONE)
		i = b->items[i].parent;
	return i != NONE ? b->items[i].next : NONE;
}

void *
tree_finish(struct tree_builder *b, size_t *size)
{
	size_t n = image_size(b->count, b->used);
	struct image_head head = { .version = IMAGE_VERSION, .nodes = b->count, .size = n };
	struct writer w = { 0 };
	char *image = NULL;

	if (b->count == 0 || n > CFG_BYTES_MAX)
		goto out;
	image = malloc(n);
	if (image == NULL)
		goto out;
	memcpy(head.magic, image_magic, sizeof head.magic);
	memcpy(image, &head, sizeof head);
	w.nodes = (void *)(image + sizeof head);
	w.at = (char *)&w.nodes[b->count];
	for (uint32_t i = 0; i != NONE; i = following(b, i))
		write_item(b, &w, i);
	*size = n;
out:
	tree_abandon(b);
	return image;
}
