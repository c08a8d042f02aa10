package main

import (
	"strings"

	"ossify/tokenizer"
)

// The lexicon: what arguments of calls, names and repeated texts are made of,
// words of one token each, with a space before and without.
// All of it stands in exercises, so that its tokens are known; which of it
// stands in a call is split between training and examination.
var (
	cities = strings.Fields(`Madrid Paris Berlin Rome London Delhi Mumbai Shanghai Tokyo Singapore Sydney Toronto Boston Chicago Denver Dallas
		Seattle Miami Manchester Houston Phoenix Atlanta Philadelphia Barcelona Dubai Liverpool Oxford Austin Detroit Amsterdam York`)
	names = strings.Fields(`Anna Ben David Emma Karl Laura Maria Oscar Paul Simon Tom Walter Alice Bob Carol Dan Frank Grace Henry Jack Kate Leo
		Peter Sam Victor Pedro Luis Ivan Ken Wei Raj`)
	nouns = strings.Fields(`apple bread coffee tea milk water salt rice cake egg fish fruit house door window table chair lamp bed roof garden
		tree flower grass river lake sea stone sand rain snow wind storm cloud sun moon star fire light night summer winter spring
		book paper pen letter word story song music film picture camera phone computer key box bag coat shoe hat ring clock train
		bus car bike boat plane road bridge station street market school office hospital church museum dog cat horse bird cow wolf
		bear lion mouse friend child mother father teacher doctor king queen team game ball goal meeting report plan task list note
		photo ticket party holiday`)
	colours = strings.Fields(`red blue green yellow black white grey brown pink orange silver gold old new small large long
		short warm cold quick slow quiet bright dark happy sad early late fresh sweet`)
	languages  = strings.Fields(`English French German Spanish Italian Greek Arabic Hindi Chinese Japanese`)
	currencies = strings.Fields(`yen credits points coins`)
	skies      = strings.Fields(`dry wet hot clear warm cool dark fair`)
	verbs      = strings.Fields(`get find send read write open close start stop make move copy show list count check load save`)
	things     = strings.Fields(`file page item user order price room score state value group event color name size level code`)
	parameters = strings.Fields(`name id path text title color size count limit date city user value key kind mode`)
)

// A lexicon of the tokenizer's own words, of one token each.
type lexicon struct {
	// strangers begin with a space, thousands of them: most stand in so few
	// conversations that the model has one row for all.
	strangers []string
	// plain are the first of them that are one token without the space, too:
	// arguments of calls, so many that they are copied, not known.
	plain []string
	// pairs are the ids of all words that are one token with the space and
	// without, in that order.
	pairs [][2]uint32
}

func newLexicon(t *tokenizer.Tokenizer) *lexicon {
	const plain = 1200
	l := &lexicon{}
	for id := range uint32(tokenizer.Ordinary) {
		text, _ := t.Token(id)
		word, ok := strings.CutPrefix(text, " ")
		if !ok || word == "" {
			continue
		}
		bare := t.EncodeOrdinary(nil, word)
		if len(bare) == 1 {
			l.pairs = append(l.pairs, [2]uint32{id, bare[0]})
		}
		if len(word) > 4 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") == "" {
			l.strangers = append(l.strangers, word)
			if len(bare) == 1 && len(l.plain) < plain {
				l.plain = append(l.plain, word)
			}
		}
	}
	return l
}
