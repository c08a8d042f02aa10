// Writes the logits that a libllama computes: logits MODEL THREADS DECODE < IDS > LOGITS
//
// IDS are token ids in decimal. The last DECODE of them go in one by one, the others at once. LOGITS are
// float32, [tokens, vocabulary]. Everything else is as in llama-bench, the cache in float16 too. It is
// compiled against llama.cpp and against ik_llama.cpp.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

static void fail(const char * what) {
    fprintf(stderr, "logits: %s\n", what);
    exit(1);
}

// decode runs tokens first to last, last not included, and writes a row for each.
static void decode(llama_context * context, const std::vector<llama_token> & tokens, int first, int last, int vocab) {
    llama_batch batch = llama_batch_init(last - first, 0, 1);
    batch.n_tokens = last - first;
    for (int i = 0; i < batch.n_tokens; i++) {
        batch.token[i] = tokens[first + i];
        batch.pos[i] = first + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;
    }
    if (llama_decode(context, batch) != 0) {
        fail("llama_decode failed");
    }
    for (int i = 0; i < batch.n_tokens; i++) {
        const float * row = llama_get_logits_ith(context, i);
        if (row == nullptr || fwrite(row, sizeof *row, vocab, stdout) != size_t(vocab)) {
            fail("no row written");
        }
    }
    llama_batch_free(batch);
}

int main(int argc, char ** argv) {
    if (argc != 4) {
        fail("want MODEL THREADS DECODE");
    }
    const int threads = atoi(argv[2]), single = atoi(argv[3]);
    std::vector<llama_token> tokens;
    for (int id; scanf("%d", &id) == 1;) {
        tokens.push_back(id);
    }
    const int n = int(tokens.size());
    if (threads < 1 || single < 0 || n <= single) {
        fail("want a thread, and more tokens than are decoded one by one");
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == nullptr) {
        fail("model not loaded");
    }
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (llama_token id : tokens) {
        if (id < 0 || id >= vocab) {
            fail("a token that the model does not have");
        }
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = n;
    params.n_batch = n;
    params.n_threads = params.n_threads_batch = threads;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        fail("no context");
    }
    decode(context, tokens, 0, n - single, vocab);
    for (int i = n - single; i < n; i++) {
        decode(context, tokens, i, i + 1, vocab);
    }
    return fflush(stdout) == 0 ? 0 : 1; // what else there is goes with the process
}
