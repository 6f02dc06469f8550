/* SPDX-License-Identifier: MIT */
/* worker/stream/tls.c: our client against our server on loopback, with a certificate made in memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/worker_net.h"
#include "worker/stream/stream.h"

static struct rig rig;
static char cert_pem[4096], key_pem[4096], pin[65];
static struct tls_server_opts server_opts;

static void
add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

static void
take_text(BIO *b, char *out, size_t cap)
{
	int n = BIO_read(b, out, (int)cap - 1);

	assert_true(n > 0);
	out[n] = '\0';
	BIO_free(b);
}

static void
make_certificate(void)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *b;
	uint8_t md[32];

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, k);
	add_extension(x, NID_subject_alt_name, "DNS:good.test,IP:127.0.0.1");
	add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
	X509_sign(x, k, EVP_sha256());
	X509_digest(x, EVP_sha256(), md, NULL);
	for (int i = 0; i < 32; i++)
		snprintf(pin + 2 * i, 3, "%02X", md[i]);
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(b, x);
	take_text(b, cert_pem, sizeof(cert_pem));
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL);
	take_text(b, key_pem, sizeof(key_pem));
	X509_free(x);
	EVP_PKEY_free(k);
}

struct side {
	struct stream *s;
	int open, fail;
	bool done, readable, writable;
};

static void
on_event(struct stream *s, int events, void *arg)
{
	struct side *e = arg;

	(void)s;
	e->open += (events & ST_OPEN) != 0;
	e->fail += (events & ST_FAIL) != 0;
	e->readable = e->readable || (events & ST_READ) != 0;
	e->writable = e->writable || (events & ST_WRITE) != 0;
	e->done = e->done || (events & (ST_OPEN | ST_FAIL)) != 0;
}

static struct side client, server;

/* Both over one TCP pair; returns when the client's handshake has ended. */
static void
handshake(const struct tls_client_opts *opts)
{
	int p[2];

	assert_int_equal(tcp_pair(p), 0);
	assert_int_equal(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
	client = server = (struct side){ .s = NULL };
	server.s = tls_server(tcp_accepted(&rig.w.loop, p[0]), &server_opts);
	client.s = tls_client(tcp_accepted(&rig.w.loop, p[1]), opts);
	assert_non_null(server.s);
	assert_non_null(client.s);
	stream_set_cb(server.s, on_event, &server);
	stream_set_cb(client.s, on_event, &client);
	assert_int_equal(client.open, 0);
	assert_true(rig_wait(&rig, &client.done));
	assert_int_equal(client.open + client.fail, 1);
}

static void
end(void)
{
	stream_close(client.s, CLOSE_FLUSH);
	stream_close(server.s, CLOSE_FLUSH);
	rig_turns(&rig, 20);
}

static int
group_setup(void **state)
{
	char why[128] = "";

	(void)state;
	rig_start(&rig);
	make_certificate();
	assert_int_equal(tls_setup(cert_pem, strlen(cert_pem)), 0);
	server_opts = (struct tls_server_opts){ .cert_pem = cert_pem, .key_pem = key_pem };
	assert_int_equal(tls_server_prepare(&server_opts, why, sizeof(why)), 0);
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	loop_fini(&rig.w.loop);
	return 0;
}

static void
test_tls_client_verified(void **state)
{
	static const char *const alpn[] = { "h2", "http/1.1", NULL };
	struct tls_client_opts o = { .server_name = "good.test", .alpn = alpn };

	(void)state;
	handshake(&o);
	assert_int_equal(client.open, 1);
	assert_true(rig_wait(&rig, &server.done));
	assert_int_equal(server.open, 1);
	end();
	o.server_name = "127.0.0.1";
	handshake(&o);
	assert_int_equal(client.open, 1);
	end();
}

static void
test_tls_client_wrong_name(void **state)
{
	struct tls_client_opts o = { .server_name = "bad.test" };

	(void)state;
	handshake(&o);
	assert_int_equal(client.fail, 1);
	assert_int_equal(client.s->err, E_TLS);
	assert_non_null(strstr(stream_why(client.s), "certificate verify failed: hostname mismatch"));
	end();
	o.server_name = "127.0.0.2";
	handshake(&o);
	assert_int_equal(client.fail, 1);
	assert_non_null(strstr(stream_why(client.s), "IP address mismatch"));
	end();
	o.server_name = "";		/* nothing to check against is no reason not to check */
	handshake(&o);
	assert_int_equal(client.fail, 1);
	end();
}

static void
test_tls_client_skip_and_pin(void **state)
{
	struct tls_client_opts o = { .server_name = "bad.test", .skip_verify = true };

	(void)state;
	handshake(&o);
	assert_int_equal(client.open, 1);
	end();
	o = (struct tls_client_opts){ .server_name = "bad.test", .fingerprint = pin };
	handshake(&o);
	assert_int_equal(client.open, 1);
	end();
	pin[0] = pin[0] == '0' ? '1' : '0';
	o.skip_verify = true;		/* a pin is checked all the same */
	handshake(&o);
	assert_int_equal(client.fail, 1);
	assert_non_null(strstr(stream_why(client.s), "fingerprint"));
	end();
	o.fingerprint = "12:zz";
	handshake(&o);
	assert_int_equal(client.fail, 1);
	end();
}

static void
test_tls_client_plain_peer(void **state)
{
	int p[2];
	struct tls_client_opts o = { .server_name = "good.test" };

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	client = (struct side){ .s = tls_client(tcp_accepted(&rig.w.loop, p[0]), &o) };
	stream_set_cb(client.s, on_event, &client);
	assert_int_equal(write(p[1], "HTTP/1.1 400 no\r\n\r\n", 19), 19);
	assert_true(rig_wait(&rig, &client.done));
	assert_int_equal(client.fail, 1);
	assert_non_null(strstr(stream_why(client.s), "wrong version number"));
	stream_close(client.s, CLOSE_FLUSH);
	close(p[1]);
	assert_int_equal(tcp_pair(p), 0);
	client = (struct side){ .s = tls_client(tcp_accepted(&rig.w.loop, p[0]), &o) };
	stream_set_cb(client.s, on_event, &client);
	shutdown(p[1], SHUT_WR);
	assert_true(rig_wait(&rig, &client.done));
	assert_non_null(strstr(stream_why(client.s), "closed"));
	stream_close(client.s, CLOSE_FLUSH);
	close(p[1]);
}

/* A lower stream that fails to dial is told upward with its own reason; one closed while dialing cancels it. */
static void
test_tls_client_over_failed_dial(void **state)
{
	struct tls_client_opts o = { .server_name = "good.test" };
	struct stream *tcp = tcp_dialing(&rig.w.loop);
	struct ip ip = { .family = 4, .b = { 127, 0, 0, 1 } };
	uint16_t port = 0;
	int l = listen_on("127.0.0.1", &port);

	(void)state;
	close(l);
	client = (struct side){ .s = tls_client(tcp, &o) };
	stream_set_cb(client.s, on_event, &client);
	tcp_connect(tcp, &ip, 1, port, NULL, false);
	assert_true(rig_wait(&rig, &client.done));
	assert_int_equal(client.fail, 1);
	assert_int_equal(client.s->err, E_REFUSED);
	assert_non_null(strstr(stream_why(client.s), "connection refused"));
	stream_close(client.s, CLOSE_FLUSH);
	client = (struct side){ .s = tls_client(tcp_dialing(&rig.w.loop), &o) };
	stream_set_cb(client.s, on_event, &client);
	stream_close(client.s, CLOSE_FLUSH);
	rig_turns(&rig, 3);
	assert_int_equal(client.fail, 0);
}

/* Much more than the sockets hold, so that records stay sealed and unsent; then the end, which arrives as an end. */
static void
test_tls_bulk_and_end(void **state)
{
	enum { N = 12 << 20 };
	struct tls_client_opts o = { .server_name = "good.test" };
	static char text[40000];
	size_t sent = 0, got = 0;
	bool blocked = false, ended = false;
	uint64_t limit = loop_clock_ms() + 20000;

	(void)state;
	handshake(&o);
	stream_want(client.s, ST_WRITE);
	while (sent < N && loop_clock_ms() < limit) {
		size_t k = N - sent < sizeof(text) ? N - sent : sizeof(text);
		ssize_t n;

		for (size_t i = 0; i < k; i++)
			text[i] = (char)((sent + i) % 251);
		n = stream_write(client.s, text, k);
		if (n == -E_AGAIN) {
			if (!blocked)
				rig_turns(&rig, 3);
			blocked = true;
			stream_want(server.s, ST_READ);
			server.readable = false;
			assert_true(rig_wait(&rig, &server.readable));
			while ((n = stream_read(server.s, text, sizeof(text))) > 0) {
				for (ssize_t i = 0; i < n; i++)
					assert_int_equal((unsigned char)text[i], (got + (size_t)i) % 251);
				got += (size_t)n;
			}
			assert_int_equal(n, -E_AGAIN);
			loop_turn(&rig.w.loop);
			continue;
		}
		assert_true(n > 0);
		sent += (size_t)n;
	}
	assert_true(blocked);
	stream_close(client.s, CLOSE_FLUSH);	/* what is sealed goes out first, then close_notify */
	stream_want(server.s, ST_READ);
	while (!ended && loop_clock_ms() < limit) {
		ssize_t n;

		loop_turn(&rig.w.loop);
		while ((n = stream_read(server.s, text, sizeof(text))) > 0)
			got += (size_t)n;
		ended = n == 0;
	}
	assert_true(ended);
	assert_int_equal(got, N);
	stream_close(server.s, CLOSE_FLUSH);
	rig_turns(&rig, 3);
}

/* Bytes that OpenSSL holds already wake the reader though the socket is empty. */
static void
test_tls_pending_wakes(void **state)
{
	struct tls_client_opts o = { .server_name = "good.test" };
	char text[4];
	int rounds = 0;

	(void)state;
	handshake(&o);
	assert_true(rig_wait(&rig, &server.done));
	assert_int_equal(stream_write(server.s, "abcdefghij", 10), 10);
	stream_want(client.s, ST_READ);
	for (size_t got = 0; got < 10; rounds++) {
		client.readable = false;
		assert_true(rig_wait(&rig, &client.readable));
		got += (size_t)stream_read(client.s, text, 4);
	}
	assert_int_equal(rounds, 3);
	/* our direction ends, the other goes on */
	assert_int_equal(stream_shut_wr(client.s), 0);
	assert_int_equal(stream_write(client.s, "x", 1), -E_CLOSED);
	stream_want(server.s, ST_READ);
	server.readable = false;
	assert_true(rig_wait(&rig, &server.readable));
	assert_int_equal(stream_read(server.s, text, 4), 0);
	assert_int_equal(stream_write(server.s, "late", 4), 4);
	client.readable = false;
	assert_true(rig_wait(&rig, &client.readable));
	assert_int_equal(stream_read(client.s, text, 4), 4);
	end();
}

static void
test_tls_server_prepare_bad(void **state)
{
	struct tls_server_opts o = { .cert_pem = "nonsense", .key_pem = key_pem };
	char why[128] = "";

	(void)state;
	assert_int_equal(tls_server_prepare(&o, why, sizeof(why)), -E_TLS);
	assert_non_null(strstr(why, "certificate"));
	o = (struct tls_server_opts){ .cert_pem = cert_pem, .key_pem = "" };
	assert_int_equal(tls_server_prepare(&o, why, sizeof(why)), -E_TLS);
	assert_non_null(strstr(why, "key"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls_client_verified), cmocka_unit_test(test_tls_client_wrong_name),
		cmocka_unit_test(test_tls_client_skip_and_pin), cmocka_unit_test(test_tls_client_plain_peer),
		cmocka_unit_test(test_tls_client_over_failed_dial), cmocka_unit_test(test_tls_bulk_and_end),
		cmocka_unit_test(test_tls_pending_wakes), cmocka_unit_test(test_tls_server_prepare_bad),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
