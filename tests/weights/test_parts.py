import pytest
import torch
from torch import nn

from amnesty.errors import ModelError
from amnesty.studies.digits import DigitsNet
from amnesty.weights import classifier_of, execution_order, is_norm, norm_parameters, stages
from benchmarks._models import ResNet
from tests import tiny, vision
from tests.weights import zoo

IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def starts(model: nn.Module, probe: torch.Tensor) -> list[set[str]]:
    """The modules of each stage."""
    found = stages(model, probe)
    assert len(set(sum(found, ()))) == len(sum(found, ()))  # nothing twice
    return [{name.rpartition(".")[0] for name in stage} for stage in found]


class TestNorms:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: nn.BatchNorm1d(4),
            lambda: nn.BatchNorm2d(4),
            lambda: nn.SyncBatchNorm(4),
            lambda: nn.InstanceNorm2d(4, affine=True),
            lambda: nn.LayerNorm(4),
            lambda: nn.GroupNorm(2, 4),
            lambda: nn.RMSNorm(4),
            type("LlamaRMSNorm", (nn.Module,), {}),
            lambda: type("BatchNorm", (nn.BatchNorm2d,), {})(4),
        ],
    )
    def test_every_kind(self, make):
        assert is_norm(make())

    @pytest.mark.parametrize(
        "module",
        [
            nn.Conv2d(1, 1, 1),
            nn.Sequential(nn.BatchNorm2d(1)),
            nn.LocalResponseNorm(2),
            nn.PReLU(),
            type("LayerNormMLP", (nn.Module,), {})(),
            type("FusedLayerNorm", (nn.Sequential,), {})(nn.Linear(1, 1)),
        ],
    )
    def test_nothing_else(self, module):
        assert not is_norm(module)

    def test_are_found_by_type_not_by_name(self):
        model = nn.ModuleDict({"bn": nn.Linear(2, 2), "downsample": nn.Sequential(nn.BatchNorm1d(2))})
        assert norm_parameters(model) == {"downsample.0.weight", "downsample.0.bias"}

    def test_norms_without_parameters(self):
        assert norm_parameters(nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))) == set()


class TestOrder:
    def test_follows_use_not_registration(self):
        order = execution_order(zoo.transformer(), IMAGES)
        first = ["embed", "", "blocks.0.norm1", "blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.norm2"]
        assert order[:6] == first and order[-2:] == ["norm", "head"]

    def test_sees_what_is_used_without_a_call(self):
        # Attention hands the weights of its output layer to a function, and never calls that layer.
        order = execution_order(tiny.attention(), IMAGES)
        assert order[:4] == ["embed", "", "layer.self_attn", "layer.self_attn.out_proj"]

    def test_leaves_out_what_is_not_used(self):
        assert "spare" not in execution_order(zoo.transformer(), IMAGES)

    def test_asking_a_weight_for_its_type_is_no_use(self):
        class Cautious(nn.Module):
            def __init__(self):
                super().__init__()
                self.last, self.first = nn.Linear(4, 2), nn.Linear(36, 4)

            def forward(self, x):
                x = x.to(self.last.weight.dtype).to(self.last.weight.device)
                assert self.last.weight.shape[1] == 4
                return self.last(self.first(x.flatten(1)))

        assert execution_order(Cautious(), IMAGES) == ["first", "last"]

    def test_sees_recurrent_weights(self):
        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.head, self.rnn = nn.Linear(4, 2), nn.LSTM(6, 4, batch_first=True)

            def forward(self, x):
                return self.head(self.rnn(x[:, 0])[0][:, -1])

        assert execution_order(Recurrent(), IMAGES) == ["rnn", "head"]
        assert [len(s) for s in stages(Recurrent(), IMAGES)] == [4, 2]


class TestClassifier:
    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (tiny.conv_net, "5"),
            (tiny.mlp, "3"),
            (tiny.attention, "head"),
            (zoo.transformer, "head"),
            (zoo.residual, "fc"),
        ],
    )
    def test_of_usual_networks(self, make, name):
        assert classifier_of(make(), IMAGES) == name

    def test_of_a_single_layer(self):
        assert classifier_of(nn.Linear(4, 3), torch.zeros(2, 4)) == ""

    def test_by_what_is_computed(self):
        # The last layer that runs, with as many outputs, is a by-product.
        class Aside(nn.Module):
            def __init__(self):
                super().__init__()
                self.logits, self.aside = nn.Linear(36, 3), nn.Linear(36, 3)

            def forward(self, x):
                logits = self.logits(x.flatten(1))
                return logits + 0 * self.aside(x.flatten(1)).detach()

        assert classifier_of(Aside(), IMAGES) == "logits"

    def test_a_convolution_up_to_its_shape(self):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 3, 1), nn.Flatten())
        assert classifier_of(model, IMAGES) == "2"

    def test_with_pooled_logits(self):
        layers = (nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 5, 3))
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        assert classifier_of(model, IMAGES) == "2"

    def test_with_scaled_logits(self):
        class Scaled(nn.Sequential):
            def forward(self, x):
                return 2.0 * super().forward(x)

        assert classifier_of(Scaled(nn.Flatten(), nn.Linear(36, 3), nn.Linear(3, 3)), IMAGES) == "2"

    def test_logits_within_an_output(self):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = tiny.mlp()

            def forward(self, x):
                return type("Output", (), {"logits": self.net(x)})()

        assert classifier_of(Wrapped(), IMAGES) == "net.3"

    def test_there_is_none(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Unflatten(1, (3, 2)), nn.Flatten(2))
        with pytest.raises(ModelError, match=r"No classifier.*The last layers used: 1"):
            classifier_of(nn.Sequential(*model, nn.LPPool1d(2, 2), nn.Flatten()), IMAGES)


class TestStages:
    def test_plain_networks_have_one_for_each_weight_layer(self):
        assert stages(tiny.conv_net(), IMAGES) == (
            ("0.weight", "1.weight", "1.bias"),
            ("5.weight", "5.bias"),
        )
        assert starts(tiny.mlp(), IMAGES) == [{"1"}, {"3"}]
        digits = [{"0", "1"}, {"3", "4"}, {"7", "8"}, {"12"}]
        assert starts(DigitsNet(), torch.zeros(2, 1, 8, 8)) == digits

    def test_residual_networks_have_a_stem_and_groups(self):
        found = starts(zoo.residual(), IMAGES)
        assert found[0] == {"conv1", "bn1"} and found[-1] == {"fc"}
        assert [{name[:6] for name in stage} for stage in found[1:-1]] == [{"layer1"}, {"layer2"}]

    def test_residual_blocks_in_one_list(self):
        found = starts(ResNet((4, 4, 4)), torch.zeros(2, 3, 8, 8))
        firsts = [{name.split(".")[0] for name in stage} for stage in found]
        assert firsts == [{"1", "2"}, {"4"}, {"5"}, {"6"}, {"7"}, {"8"}, {"9"}, {"12"}]

    def test_transformers_have_a_stage_for_each_block(self):
        model = zoo.transformer()
        found = stages(model, IMAGES)
        assert set(found[0]) == {"embed.weight", "embed.bias", "token", "positions"}
        assert found[-1] == ("head.weight", "head.bias")
        for k in range(3):
            own = {name for name, _ in model.named_parameters() if name.startswith(f"blocks.{k}.")}
            assert set(found[k + 1]) == own | ({"norm.weight", "norm.bias"} if k == 2 else set())
        assert not any(name.startswith("spare") for stage in found for name in stage)

    def test_attention_that_hides_its_output_layer(self):
        model = tiny.attention()
        embed, layer, head = stages(model, IMAGES)
        assert set(embed) == {"token", "embed.weight", "embed.bias"} and set(head) == {"head.weight", "head.bias"}
        assert set(layer) == {name for name, _ in model.named_parameters() if name.startswith("layer.")}

    @pytest.mark.parametrize("wrap", [1, 3])
    @pytest.mark.parametrize("make", [tiny.conv_net, zoo.residual, zoo.transformer])
    def test_wrapping_changes_names_only(self, make, wrap):
        model, start = make(), ""
        for _ in range(wrap):
            model, start = nn.Sequential(nn.Identity(), model), f"1.{start}"
        expected = [[start + name for name in stage] for stage in stages(make(), IMAGES)]
        assert [list(stage) for stage in stages(model, IMAGES)] == expected

    @pytest.mark.parametrize("hidden", [0, 2])
    def test_a_plain_network_in_two_parts(self, hidden):
        features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten())
        layers = [nn.Linear(32, 32) for _ in range(hidden)]
        model = nn.Sequential(features, nn.Sequential(*layers, nn.Linear(32, 3)))
        assert starts(model, IMAGES) == [{"0.0", "0.1"}, {"0.3"}, *({f"1.{k}"} for k in range(hidden + 1))]

    def test_groups_made_by_the_author_are_kept(self):
        groups = [nn.Sequential(nn.Conv2d(1 if k == 0 else 4, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()) for k in range(3)]
        model = nn.Sequential(*groups, nn.Flatten(), nn.Linear(144, 3))
        assert starts(model, IMAGES) == [{"0.0", "0.1"}, {"1.0", "1.1"}, {"2.0", "2.1"}, {"4"}]
        model = nn.Sequential(nn.Sequential(*groups), nn.Flatten(), nn.Linear(144, 3))
        assert starts(model, IMAGES) == [{"0.0.0", "0.0.1"}, {"0.1.0", "0.1.1"}, {"0.2.0", "0.2.1"}, {"2"}]

    def test_one_module_before_the_classifier_is_opened(self):
        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

            def forward(self, x):
                return self.second(self.first(x)).flatten(1)

        model = nn.ModuleDict({"encoder": Encoder(), "fc": nn.Linear(8, 3)})
        model.forward = lambda x: model["fc"](model["encoder"](x))
        assert starts(model, IMAGES) == [{"encoder.first"}, {"encoder.second"}, {"fc"}]

    def test_a_norm_before_everything_joins_the_first_layer(self):
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.PReLU(), nn.Flatten(), nn.Linear(64, 3))
        assert starts(model, IMAGES) == [{"0", "1", "2"}, {"4"}]
        only = nn.Sequential(nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3))
        assert stages(only, IMAGES) == (("1.weight", "1.bias", "2.weight", "2.bias"),)

    def test_a_norm_before_the_classifier_joins_what_it_follows(self):
        head = nn.Sequential(nn.LayerNorm(4), nn.Flatten(), nn.Linear(4, 3))
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), head)
        assert starts(model, IMAGES) == [{"1", "2.0"}, {"2.2"}]

    def test_embeddings_join(self):
        class Text(nn.Module):
            def __init__(self):
                super().__init__()
                self.words, self.places = nn.Embedding(9, 4), nn.Embedding(5, 4)
                self.layers = nn.ModuleList(zoo.Layer(4) for _ in range(2))
                self.head = nn.Linear(4, 3)

            def forward(self, x):
                x = self.words(x) + self.places(torch.arange(x.shape[1]))
                for layer in self.layers:
                    x = layer(x)
                return self.head(x.mean(1))

        found = stages(Text(), torch.zeros(2, 5, dtype=torch.long))
        assert found[0][:2] == ("words.weight", "places.weight")
        assert [stage[-1].split(".")[:2] for stage in found[:2]] == [["layers", "0"], ["layers", "1"]]

    def test_tied_weights_are_counted_once(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 3))
        model[2].weight = model[1].weight
        assert stages(model, IMAGES) == (("1.weight", "1.bias", "2.bias"), ("4.weight", "4.bias"))

    def test_tied_weights_of_the_classifier_are_its_own(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        model[4].weight = model[2].weight
        assert stages(model, IMAGES)[-1] == ("2.weight", "4.bias")

    def test_frozen_parameters_are_named_too(self):
        model = tiny.conv_net()
        model[0].weight.requires_grad_(False)
        assert "0.weight" in stages(model, IMAGES)[0]

    def test_batch_norm_and_dropout_are_in_evaluation_mode(self):
        # In training mode a batch of one would fail, and dropout would hide which layer gives the logits.
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Dropout(0.9))
        assert starts(model.train(), IMAGES[:1]) == [{"1", "2"}, {"3"}]


@pytest.mark.parametrize("look", [execution_order, classifier_of, stages])
@pytest.mark.parametrize("make", [tiny.conv_net, tiny.attention, zoo.residual])
def test_looking_changes_nothing(make, look):
    model = make()
    with zoo.untouched(model):
        look(model, IMAGES)


RESNET = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"], ["fc"]]


class TestOtherLibraries:
    """The layouts that users bring."""

    @staticmethod
    def groups(model, side, depth=1, channels=3):
        found = stages(model.eval(), torch.randn(1, channels, side, side))
        assert sum(len(stage) for stage in found) == len(list(model.parameters()))
        return [list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in stage)) for stage in found]

    def test_torchvision_resnet(self):
        assert self.groups(vision.library("torchvision.models").resnet18(), 32) == RESNET

    @pytest.mark.parametrize("name", ["resnet10t", "resnet18"])
    def test_timm_resnet(self, name):
        assert self.groups(vision.library("timm").create_model(name), 64) == RESNET

    def test_vgg(self):
        found = self.groups(vision.library("torchvision.models").vgg11_bn(num_classes=10), 32, depth=2)
        layers = [[f"features.{k}", f"features.{k + 1}"] for k in (0, 4, 8, 11, 15, 18, 22, 25)]
        assert found == [*layers, ["classifier.0"], ["classifier.3"], ["classifier.6"]]

    def test_timm_transformer(self):
        vit = vision.library("timm.models.vision_transformer").VisionTransformer(
            img_size=8, patch_size=2, in_chans=1, embed_dim=32, depth=2, num_heads=2, num_classes=10
        )
        stem = ["patch_embed", "cls_token", "pos_embed"]
        assert self.groups(vit, 8, channels=1) == [stem, ["blocks"], ["blocks", "norm"], ["head"]]

    def test_torchvision_transformer(self):
        vit = vision.library("torchvision.models").VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10)
        stem = ["conv_proj", "class_token", "encoder"]
        assert self.groups(vit, 32) == [stem, ["encoder"], ["encoder"], ["heads"]]

    def test_convnext_whose_head_begins_with_a_norm(self):
        found = self.groups(vision.library("timm").create_model("convnext_atto", num_classes=10), 64, depth=2)
        assert [stage[-1] for stage in found] == [
            "stem.1",
            *(f"stages.{k}" for k in range(3)),
            "head.norm",
            "head.fc",
        ]
