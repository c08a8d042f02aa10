package main

import (
	"strings"

	"ossify/tokenizer"
)

// The lexicon: what arguments of calls, names and repeated texts are made of.
// All of it stands in exercises, so that its tokens are known; which of it
// stands in a call is split between training and examination.
var (
	cities = strings.Fields(`Lisbon Porto Madrid Paris Lyon Berlin Munich Hamburg Vienna Zurich Geneva Rome Milan Naples Athens
		Cairo Tunis Dakar Nairobi Lagos London Leeds Dublin Oslo Bergen Stockholm Helsinki Copenhagen Warsaw Prague Budapest
		Sofia Istanbul Moscow Delhi Mumbai Beijing Shanghai Tokyo Osaka Kyoto Seoul Bangkok Singapore Sydney Perth Toronto
		Montreal Boston Chicago Denver Dallas Seattle Miami Lima Quito Bogota Havana Santiago`)
	names = strings.Fields(`Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karl Laura Maria Nina Oscar Paul Rosa Simon
		Tom Vera Walter Alice Bob Carol Dan Eve Frank Grace Henry Iris Jack Kate Leo Mia Noah Olga Peter Ruth Sam Tina Victor
		Marta Pedro Luis Elena Ivan Omar Amir Yuki Ken Mei Wei Raj Priya`)
	nouns = strings.Fields(`apple bread butter cheese coffee tea milk water sugar salt rice soup cake egg fish meat fruit
		house door window table chair lamp bed roof garden tree flower grass river lake sea mountain stone sand rain snow wind
		storm cloud sun moon star fire light night morning evening summer winter spring autumn book paper pen letter word story
		song music piano guitar violin drum film picture camera phone computer key box bag coat shoe hat ring clock train bus car
		bike boat plane road bridge station street market school office hospital church museum theatre dog cat horse bird cow
		sheep wolf bear lion mouse friend child mother father brother sister teacher doctor farmer king queen team game ball goal
		meeting report plan task list note photo ticket lunch dinner party holiday journey`)
	colours = strings.Fields(`red blue green yellow black white grey brown pink orange silver gold old new small large long
		short warm cold quick slow quiet loud bright dark happy sad early late fresh sweet`)
	languages  = strings.Fields(`English French German Spanish Italian Polish Greek Arabic Hindi Chinese Japanese Korean`)
	currencies = strings.Fields(`euros dollars pounds francs yen rupees`)
	skies      = strings.Fields(`sunny cloudy rainy windy snowy foggy clear stormy`)
	verbs      = strings.Fields(`get find send read write open close start stop make move copy show list count check load save`)
	things     = strings.Fields(`file page item user order price room score state value group event color name size level code`)
	parameters = strings.Fields(`name id path text title color size count limit date city user value key kind mode`)
)

// strangers are words of one token that begin with a space, thousands of them:
// most stand in so few conversations that the model has one row for all.
func strangers(t *tokenizer.Tokenizer) []string {
	var list []string
	for id := range uint32(tokenizer.Ordinary) {
		text, _ := t.Token(id)
		word, ok := strings.CutPrefix(text, " ")
		if ok && len(word) > 4 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") == "" {
			list = append(list, word)
		}
	}
	return list
}
